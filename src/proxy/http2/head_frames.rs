//! The HEADERS frames of HTTP/2 on their way to h2, each written anew where that is needed (RFC 9113 section 6.2).
//!
//! h2 judges some heads by ending the whole connection, and drops pseudo-header fields of trailers in silence. So `request_heads` looks
//! at those of requests first, and `response_heads` at those of responses. All other bytes go on as they came.

use super::flood::{CONTINUATION, HEADER, HEADERS};
use super::hpack::{count, shortened, size_updates};

/// Follows the frames that come by one connection.
#[derive(Debug)]
pub(super) struct HeadFrames {
    /// Bytes that go on unseen: the rest of the preface, or of a frame.
    unseen: usize,
    /// The beginning of a frame whose end has not come.
    held: Vec<u8>,
    /// See [`Self::take_size`].
    size: usize,
    /// How much of that the rest of the last head may still come to.
    rest: usize,
}

/// Streams whose message has a head and no end yet, the oldest first: a HEADERS frame on one of them is trailers.
#[derive(Debug, Default)]
pub(super) struct HeadedStreams(Vec<u32>);

/// The payload of a HEADERS frame, without its padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    priority: &'a [u8],
    /// The fields, by HPACK.
    pub(crate) fields: &'a [u8],
}

impl HeadFrames {
    /// `unseen` bytes come before the first frame.
    pub(crate) const fn behind(unseen: usize) -> Self {
        Self { unseen, held: Vec::new(), size: 0, rest: 0 }
    }

    /// Bytes that the heads since the last call take once they are decoded: a field may be a single byte on the wire.
    pub(crate) const fn take_size(&mut self) -> usize {
        std::mem::replace(&mut self.size, 0)
    }

    /// Looks at bytes that came, and returns how many of them go on as they are. What goes on behind those is put into `out`;
    /// what is in neither waits for more. `judge` is given each frame's header, and the payload of a HEADERS frame; it returns
    /// the frame that goes on in place of that.
    pub(crate) fn admit(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut judge: impl FnMut(&[u8; HEADER], &[u8]) -> Option<Vec<u8>>,
    ) -> usize {
        if self.held.is_empty() {
            return self.look(bytes, out, &mut judge);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut rewritten = Vec::new();
        let same = self.look(&all, &mut rewritten, &mut judge);
        out.extend_from_slice(&all[..same]);
        out.append(&mut rewritten);
        0
    }

    fn look(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        judge: &mut impl FnMut(&[u8; HEADER], &[u8]) -> Option<Vec<u8>>,
    ) -> usize {
        // What is before `done` is in `out`, but for the first bytes, which are as they came.
        let (mut at, mut done, mut same) = (0, 0, None);
        loop {
            let skipped = self.unseen.min(bytes.len() - at);
            self.unseen -= skipped;
            at += skipped;
            let rest = &bytes[at..];
            let Some(header) = rest.first_chunk::<HEADER>() else { break };
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if header[3] != HEADERS || length > LARGEST_FRAME {
                judge(header, &[]);
                if header[3] == CONTINUATION {
                    let more = self.rest.min(length * FIELD_BYTES);
                    self.rest -= more;
                    self.size += more;
                }
                self.unseen = HEADER + length;
                continue;
            }
            let Some(frame) = rest.get(..HEADER + length) else { break };
            let judged = judge(header, &frame[HEADER..]);
            self.rest = MOST_FIELD_BYTES;
            self.size += size(judged.as_deref().unwrap_or(frame));
            if let Some(rewritten) = judged {
                if same.is_some() {
                    out.extend_from_slice(&bytes[done..at]);
                } else {
                    same = Some(at);
                }
                out.extend_from_slice(&rewritten);
                done = at + frame.len();
            }
            at += frame.len();
        }
        self.held.extend_from_slice(&bytes[at..]);
        match same {
            Some(same) => {
                out.extend_from_slice(&bytes[done..at]);
                same
            }
            None => at,
        }
    }
}

impl HeadedStreams {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn contains(&self, stream: u32) -> bool {
        self.0.contains(&stream)
    }

    /// The head of its message came.
    pub(crate) fn begin(&mut self, stream: u32) {
        if !self.contains(stream) {
            if self.0.len() >= MOST_STREAMS {
                self.0.remove(0);
            }
            self.0.push(stream);
        }
    }

    /// The end of its message came.
    pub(crate) fn end(&mut self, stream: u32) {
        self.0.retain(|open| *open != stream);
    }
}

impl<'a> Block<'a> {
    /// That of a HEADERS frame with these flags; `None`: it is malformed.
    pub(crate) fn of(flags: u8, payload: &'a [u8]) -> Option<Self> {
        let (padding, rest) = if flags & PADDED == 0 {
            (0, payload)
        } else {
            let (padding, rest) = payload.split_first()?;
            (usize::from(*padding), rest)
        };
        let (priority, rest) =
            rest.split_at_checked(if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES })?;
        Some(Self { priority, fields: &rest[..rest.len().checked_sub(padding)?] })
    }

    /// The fields of a head that is refused where it has more than `limit`: h2 decodes no more of them than show that it has.
    pub(crate) fn shortened(self, limit: usize) -> Option<Vec<u8>> {
        shortened(self.fields, limit.saturating_add(UNCOUNTED_FIELDS))
    }

    /// The same with other fields, where there are any.
    pub(crate) fn with(self, fields: Option<&'a [u8]>) -> Self {
        Self { fields: fields.unwrap_or(self.fields), ..self }
    }

    /// A frame with this header, but for its length and padding, and other `fields`. `None`: they do not fit.
    pub(crate) fn framed(self, header: &[u8; HEADER], fields: &[&[u8]]) -> Option<Vec<u8>> {
        let mut frame = [&header[..], self.priority, &fields.concat()].concat();
        let length = u32::try_from(frame.len() - HEADER).ok()?;
        if length as usize > LARGEST_FRAME {
            return None;
        }
        frame[..3].copy_from_slice(&length.to_be_bytes()[1..]);
        frame[4] &= !PADDED;
        Some(frame)
    }

    /// The same frame of trailers, in which h2 takes a pseudo-header field for what it is, malformed (RFC 9113 section 8.1): a
    /// field comes before all others, and is removed from the trailers again as each of its name is.
    pub(crate) fn trailers(self, header: &[u8; HEADER]) -> Option<Vec<u8>> {
        let (updates, fields) = self.fields.split_at_checked(size_updates(self.fields)?)?;
        self.framed(header, &[updates, CONTENT_TYPE, fields])
    }
}

/// Bytes that the head in a HEADERS frame takes, and its stream.
fn size(frame: &[u8]) -> usize {
    let block =
        frame.split_first_chunk::<HEADER>().and_then(|(header, payload)| Block::of(header[4], payload));
    // Each takes a byte at the least.
    let block = block.filter(|block| block.fields.len() > ORDINARY_FIELDS);
    let more = block.map_or(0, |block| count(block.fields).saturating_sub(ORDINARY_FIELDS));
    ORDINARY_BYTES + MOST_FIELD_BYTES.min(more * FIELD_BYTES)
}

/// The stream of a frame with this header.
pub(super) const fn stream_of(header: &[u8; HEADER]) -> u32 {
    u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]])
}

/// h2's `SETTINGS_MAX_FRAME_SIZE` (RFC 9113 section 6.5.2): it refuses larger frames.
pub(super) const LARGEST_FRAME: usize = 16 * 1024;
/// Flags of `HEADERS`, and the bytes of what `PRIORITY` announces (RFC 9113 section 6.2).
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// What an ordinary head takes, of so many fields; and each field more in a map of them, beside its name and value.
const ORDINARY_BYTES: usize = 4 * 1024;
const ORDINARY_FIELDS: usize = 24;
const FIELD_BYTES: usize = 96;
/// The most that they come to: h2 keeps to 64 KiB, and counts 32 bytes for each field beside what it has.
const MOST_FIELD_BYTES: usize = 2048 * FIELD_BYTES;
/// Fields of a head that no limit counts: pseudo-header fields, marks, and updates of the table's size.
const UNCOUNTED_FIELDS: usize = 10;
/// Streams that are followed. The other side does not end those that were given up here.
const MOST_STREAMS: usize = 1024;
/// `content-type` with an empty value, not indexed (RFC 7541 section 6.2.2 and appendix A).
const CONTENT_TYPE: &[u8] = &[0x0f, 31 - 15, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_never_ends_is_given_up_for_newer_ones() {
        let mut streams = HeadedStreams::new();
        (0..2 * MOST_STREAMS as u32).for_each(|stream| streams.begin(stream));
        let newest = 2 * MOST_STREAMS as u32 - 1;
        assert_eq!((streams.0.len(), streams.contains(newest)), (MOST_STREAMS, true));
        streams.end(newest);
        assert_eq!((streams.0.len(), streams.contains(newest)), (MOST_STREAMS - 1, false));
    }

    #[test]
    fn a_field_is_put_before_trailers_and_behind_updates_of_the_table() {
        let header = &[0, 0, 9, HEADERS, 5 | PADDED, 0, 0, 0, 1];
        // Two updates, `:status: 200`, two bytes of padding.
        let payload = [2, 0x3f, 0xe1, 0x1f, 0x20, 0x88, 0, 0];
        let frame = Block::of(5 | PADDED, &payload).unwrap().trailers(header).unwrap();
        let fields = [0x3f, 0xe1, 0x1f, 0x20, 0x0f, 0x10, 0, 0x88];
        assert_eq!(frame, [&[0, 0, 8, HEADERS, 5, 0, 0, 0, 1][..], &fields].concat());
        assert_eq!(Block::of(PADDED, &[9, 0]).map(drop), None);
        assert!(Block::of(0, &[0x3f]).unwrap().trailers(header).is_none(), "an update that is cut off");
        let large = vec![0x82; LARGEST_FRAME];
        assert!(Block::of(0, &large).unwrap().trailers(header).is_none(), "there is no room");
    }
}
