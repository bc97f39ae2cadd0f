//! Personal data made short before it is sealed: LZ4 with a dictionary of what answers have in common. Nine tenths of an answer are the same in every call.
//!
//! A packed value is the number of its dictionary (1 byte) and an LZ4 block with its length before it.

/// The first dictionary. What was packed with it is read with it: it never changes, and a better one gets another number.
const DICTIONARY: &[u8] = br#"<Say language="de-DE"></Say><Pause length="5"/><Redirect method="POST">https://</Redirect><Hangup/><Sip statusCallback="?x-Zendesk-Ticket-Id="</Sip>{"caller":"+1","called":"+44"}{"caller":"anonymous","body":"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response></Response>","step":"dial-1"}{"caller":"+49","body":"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Dial answerOnBridge=\"true\" timeout=\"20\" callerId=\"+49\" action=\"https:///webhooks/twilio/dial?dialer=&amp;step=1\"><Number statusCallback=\"https:///webhooks/twilio/status?dialer=&amp;step=1\" statusCallbackEvent=\"initiated ringing answered completed\">+49</Number></Dial></Response>","step":"inbound"}"#;
const NUMBER: u8 = 1;
/// No packed value is longer, in bytes: an answer has less than 64 KiB.
const LONGEST: usize = 256 * 1024;

pub(super) fn pack(text: &[u8]) -> Vec<u8> {
    let mut packed = vec![NUMBER];
    packed.extend(lz4_flex::block::compress_prepend_size_with_dict(
        text, DICTIONARY,
    ));
    packed
}

/// What was packed; `None` where these bytes cannot be.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (&NUMBER, block) = packed.split_first()? else {
        return None;
    };
    let (size, block) = block.split_first_chunk()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    if size > LONGEST {
        return None;
    }
    lz4_flex::block::decompress_with_dict(block, size, DICTIONARY).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_and_is_a_quarter_as_long() {
        let answer = br#"{"caller":"+4915100000129","body":"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Dial answerOnBridge=\"true\" timeout=\"20\" callerId=\"+4915100000129\" action=\"https://calls.example.com/webhooks/twilio/dial?dialer=line&amp;step=1\"><Number statusCallback=\"https://calls.example.com/webhooks/twilio/status?dialer=line&amp;step=1\" statusCallbackEvent=\"initiated ringing answered completed\">+4930555000</Number></Dial></Response>","step":"inbound"}"#;
        let packed = pack(answer);
        assert_eq!(unpack(&packed).as_deref(), Some(&answer[..]));
        assert!(packed.len() * 4 < answer.len(), "{}", packed.len());
    }

    #[test]
    fn bytes_that_nobody_packed_are_nothing() {
        let packed = pack(b"{\"caller\":\"+4930123456\"}");
        for n in 0..packed.len() {
            assert_ne!(
                unpack(&packed[..n]).as_deref(),
                Some(&b"{\"caller\":\"+4930123456\"}"[..]),
                "{n}"
            );
        }
        for bytes in [
            &b""[..],
            b"{}",
            &[1, 0xff, 0xff, 0xff, 0xff, 0],
            &[2, 0, 0, 0, 0],
        ] {
            assert_eq!(unpack(bytes), None, "{bytes:?}");
        }
    }
}
