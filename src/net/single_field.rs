//! A field that a message has once. Of several, recipients differ in which one counts, so none does here.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderValue};

/// There are several fields of a name that is to stand once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Several;

/// The one field called `name`; `None`: there is none.
///
/// # Errors
/// [`Several`].
pub(crate) fn at_most_one(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> Result<Option<&HeaderValue>, Several> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Several) } else { Ok(first) }
}

/// The one field called `name`; `None`: there is none, or there are several.
pub(crate) fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    at_most_one(headers, name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use http::header::{HOST, ORIGIN};

    use super::*;

    #[test]
    fn of_several_fields_none_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!((at_most_one(&headers, &ORIGIN), only(&headers, &ORIGIN)), (Ok(None), None));
        headers.append(ORIGIN, HeaderValue::from_static("a"));
        assert_eq!(only(&headers, &ORIGIN).unwrap(), "a");
        headers.append(ORIGIN, HeaderValue::from_static("a"));
        assert_eq!((at_most_one(&headers, &ORIGIN), only(&headers, &ORIGIN)), (Err(Several), None));
        assert_eq!(only(&headers, &HOST), None);
    }
}
