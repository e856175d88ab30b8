//! Where URI references stand in the value of a field.

/// `text` with the references in angle brackets replaced, outside of quoted strings: those of `Link` (RFC 8288 section 3) and of
/// `WebDAV`'s `If` (RFC 4918 section 10.4). `None`: nothing changes.
pub(super) fn in_brackets(text: &str, replace: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut kept = 0;
    let mut at = 0;
    let mut is_quoted = false;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b'<' if !is_quoted => {
                let Some(length) = text[at + 1..].find('>') else { break };
                let end = at + 1 + length;
                if let Some(new) = replace(&text[at + 1..end]) {
                    out.push_str(&text[kept..=at]);
                    out.push_str(&new);
                    kept = end;
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    if kept == 0 {
        return None;
    }
    out.push_str(&text[kept..]);
    Some(out)
}

/// `text` of a `Refresh` field with its address replaced: `5; url=/next`, with or without quotes.
pub(super) fn in_refresh(text: &str, replace: impl Fn(&str) -> Option<String>) -> Option<String> {
    let separator = text.find([';', ','])?;
    let mut start = separator + 1;
    start += text[start..].len() - trim_start(&text[start..]).len();
    if text.get(start..start + 3).is_some_and(|name| name.eq_ignore_ascii_case("url")) {
        let behind = trim_start(&text[start + 3..]);
        if let Some(value) = behind.strip_prefix('=') {
            start = text.len() - trim_start(value).len();
        }
    }
    let quote = text[start..].chars().next().filter(|first| matches!(first, '"' | '\''));
    start += quote.map_or(0, char::len_utf8);
    let length = match quote {
        Some(quote) => text[start..].find(quote).unwrap_or(text.len() - start),
        None => text[start..].trim_end_matches(WHITE_SPACE).len(),
    };
    let new = replace(&text[start..start + length])?;
    Some(format!("{}{new}{}", &text[..start], &text[start + length..]))
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches(WHITE_SPACE)
}

/// What a field's value has (RFC 9110 section 5.6.3). All else may be a byte of it.
const WHITE_SPACE: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(target: &str) -> Option<String> {
        target.strip_prefix("up").map(|rest| format!("here{rest}"))
    }

    #[test]
    fn every_link_is_found_and_nothing_else() {
        for (text, want) in [
            ("<up/2>; rel=\"next\", <up/9>; rel=last", Some("<here/2>; rel=\"next\", <here/9>; rel=last")),
            ("<other/2>; rel=next, <up?a=1,2;3>; rel=x", Some("<other/2>; rel=next, <here?a=1,2;3>; rel=x")),
            ("<other>; title=\"a <up> b\"", None),
            ("<other>; title=\"a \\\" <up>\"", None),
            ("<up", None),
            ("up", None),
            ("", None),
            ("<up/a> (<urn:uuid:1> [\"<up>\"])", Some("<here/a> (<urn:uuid:1> [\"<up>\"])")),
        ] {
            assert_eq!(in_brackets(text, marked).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_address_of_a_refresh_is_found_in_each_of_its_forms() {
        for (text, want) in [
            ("5; url=up/x", Some("5; url=here/x")),
            ("5;URL = up/x ", Some("5;URL = here/x ")),
            ("0, url='up/x'", Some("0, url='here/x'")),
            ("0; url=\"up/x\"; y", Some("0; url=\"here/x\"; y")),
            ("0; up/x", Some("0; here/x")),
            ("0; url=\"up/x", Some("0; url=\"here/x")),
            ("5", None),
            ("5;", None),
            ("5; url=other", None),
        ] {
            assert_eq!(in_refresh(text, marked).as_deref(), want, "{text}");
        }
    }
}
