//! Text with placeholders, like `Lead {score} ({tier})`: a value of the body of one POST.

/// A part of such a text; `P` is what stands for a placeholder.
pub enum TemplatePiece<P> {
    Text(String),
    Placeholder(P),
}

/// Splits a text at its placeholders once, so that what is put in is never read again; `place` knows the words that may stand between
/// braces. Braces that hold no such word are text.
pub fn template_pieces<P>(value: &str, place: impl Fn(&str) -> Option<P>) -> Vec<TemplatePiece<P>> {
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
    pieces
}
