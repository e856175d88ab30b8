//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455 section 5.2).
//!
//! Only headers are read: the opcode, the length, and whether there is a mask. No payload is looked at and nothing is
//! changed. A `tunnel` asks so that it can put a close frame of its own between two frames and never into one.

/// Who sends a frame: an application masks its frames, a server does not (RFC 6455 section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameSender {
    Application,
    Server,
}

/// How far into its frames one direction of a stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    header: [u8; LONGEST_HEADER],
    /// Bytes of the header that are there.
    read: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) const fn at_border(&self) -> bool {
        self.read == 0 && self.payload == 0
    }

    /// Whether a close frame has gone by: nothing may follow it (RFC 6455 section 5.5.1).
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes note of bytes that go by.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[self.step(rest)..];
        }
    }

    /// How many of `bytes` belong to the frame that is under way: 0 on a border, all of them where it goes on behind them.
    pub(super) fn to_border(&self, bytes: &[u8]) -> usize {
        let mut ahead = self.clone();
        let mut passed = 0;
        while !ahead.at_border() && passed < bytes.len() {
            passed += ahead.step(&bytes[passed..]);
        }
        passed
    }

    /// Takes up a part of `bytes`, which are some, within one header or one payload; says how many that were.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let taken = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= taken as u64;
            return taken;
        }
        self.header[self.read] = bytes[0];
        self.read += 1;
        if self.read == self.header_length() {
            self.closed |= self.header[0] & OPCODE == CLOSE;
            self.payload = self.payload_length();
            self.read = 0;
        }
        1
    }

    /// The header's length, as far as it can be told by what is there of it.
    fn header_length(&self) -> usize {
        if self.read < 2 {
            return 2;
        }
        let length = match self.header[1] & LENGTH {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if self.header[1] & MASKED == 0 { length } else { length + 4 }
    }

    fn payload_length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        match self.header[1] & LENGTH {
            126 => big_endian(&self.header[2..4]),
            127 => big_endian(&self.header[2..10]),
            short => u64::from(short),
        }
    }
}

/// A close frame of `sender`'s with status 1001, "going away" (RFC 6455 section 7.4.1), and a reason of at most 123 bytes.
pub(super) fn going_away(sender: FrameSender, reason: &str) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.len().min(LONGEST_REASON)];
    let mut frame = Vec::with_capacity(8 + reason.len());
    frame.push(FINAL | CLOSE);
    // A control frame's payload is at most 125 bytes, so its length is one.
    let length = (2 + reason.len()) as u8;
    let code = 1001_u16.to_be_bytes();
    let payload = code.iter().chain(reason);
    match sender {
        FrameSender::Server => {
            frame.push(length);
            frame.extend(payload);
        }
        FrameSender::Application => {
            let mut mask = [0; 4];
            // Without a random mask the frame is as valid: all that it hides is a sentence of ours.
            let _ = aws_lc_rs::rand::fill(&mut mask);
            frame.push(MASKED | length);
            frame.extend(mask);
            frame.extend(payload.zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// Two bytes, eight of a long length, four of a mask.
const LONGEST_HEADER: usize = 14;
const LONGEST_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![FINAL | opcode];
        let mask = if masked { MASKED } else { 0 };
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 0x7e);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        // Looks like a close frame wherever one begins to read in it.
        frame.resize(frame.len() + length, FINAL | CLOSE);
        frame
    }

    proptest! {
        #[test]
        fn borders_are_found_however_the_bytes_are_cut(
            frames in prop::collection::vec((0_u8..3, any::<bool>(), prop_oneof![0_usize..200, 65_500_usize..65_600]), 1..5),
            piece in 1_usize..5000,
        ) {
            let mut all = Vec::new();
            let mut borders = vec![0];
            for (opcode, masked, length) in frames {
                all.extend(frame(opcode, masked, length));
                borders.push(all.len());
            }
            let mut seen = Frames::default();
            let mut at = 0;
            for piece in all.chunks(piece) {
                let next = borders.iter().find(|border| **border >= at).copied().unwrap_or(at);
                prop_assert_eq!(seen.to_border(&all[at..]), next - at);
                seen.pass(piece);
                at += piece.len();
                prop_assert_eq!(seen.at_border(), borders.contains(&at));
            }
            prop_assert!(!seen.is_closed(), "no payload is read");
        }
    }

    #[test]
    fn a_close_frame_is_seen_when_its_header_is_there() {
        for masked in [true, false] {
            let close = frame(CLOSE, masked, 2);
            let mut seen = Frames::default();
            seen.pass(&close[..1]);
            assert!(!seen.is_closed() && !seen.at_border());
            seen.pass(&close[1..]);
            assert!(seen.is_closed() && seen.at_border());
        }
    }

    #[test]
    fn a_length_beyond_all_memory_is_only_a_number() {
        let mut seen = Frames::default();
        seen.pass(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert!(!seen.at_border());
        assert_eq!(seen.to_border(&[0; 100]), 100);
    }

    #[test]
    fn each_side_gets_a_close_frame_of_its_own_form() {
        let plain = going_away(FrameSender::Server, "bye");
        assert_eq!(plain, [0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']);
        let masked = going_away(FrameSender::Application, "bye");
        assert_eq!(masked[..2], [0x88, 0x85]);
        let mask = &masked[2..6];
        let open: Vec<u8> = masked[6..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        assert_eq!(open, plain[2..]);
        let mut seen = Frames::default();
        seen.pass(&masked);
        assert!(seen.is_closed() && seen.at_border());
    }
}
