//! Text with placeholders, like `Lead {score} ({tier})`: a value of the body of one POST.

/// A text that is split at its placeholders once, so that what is put in is never read again. `P` is what stands for a placeholder.
pub struct TextTemplate<P>(Vec<TemplatePiece<P>>);

pub enum TemplatePiece<P> {
    Text(String),
    Placeholder(P),
}

impl<P> TextTemplate<P> {
    /// Reads a value; `place` knows the words that may stand between braces. Braces that hold no such word are text.
    pub fn parse(value: &str, place: impl Fn(&str) -> Option<P>) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let known = |(word, behind)| Some((place(word)?, behind));
            if let Some((place, behind)) = after.split_once('}').and_then(known) {
                if !text.is_empty() {
                    pieces.push(TemplatePiece::Text(std::mem::take(&mut text)));
                }
                pieces.push(TemplatePiece::Placeholder(place));
                rest = behind;
            } else {
                text.push('{');
                rest = after;
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(TemplatePiece::Text(text));
        }
        Self(pieces)
    }

    /// The placeholder, where the text is one and nothing else.
    pub fn single(&self) -> Option<&P> {
        match self.0.as_slice() {
            [TemplatePiece::Placeholder(place)] => Some(place),
            _ => None,
        }
    }

    pub fn render(&self, text_of: impl Fn(&TemplatePiece<P>) -> String) -> String {
        self.0.iter().map(text_of).collect()
    }
}
