//! Which scopes a server withheld: those that were asked for and are not among the granted ones, under any of the names
//! that servers give them.
//!
//! `outcome` warns of them.

/// Those of `asked` that `granted` really lacks.
pub(super) fn withheld<'a>(asked: &'a [String], granted: &[String]) -> Vec<&'a str> {
    let words = asked.iter().flat_map(|scope| scope.split([' ', ',']));
    let lacks = |scope: &&str| {
        !scope.is_empty() && !is_never_returned(scope) && !granted.iter().any(|given| is(scope, given))
    };
    words.filter(lacks).collect()
}

/// Scopes that ask for a behaviour, and that many servers do not list among what they granted.
fn is_never_returned(scope: &str) -> bool {
    ["openid", "offline_access"].iter().any(|name| scope.eq_ignore_ascii_case(name))
        || scope.ends_with("/.default")
}

/// Whether `given` is what was asked for: in any case, with or without the resource before it, or under Google's long name.
fn is(asked: &str, given: &str) -> bool {
    let ends = |long: &str, short: &str| {
        long.len() > short.len()
            && long.is_char_boundary(long.len() - short.len())
            && long[long.len() - short.len()..].eq_ignore_ascii_case(short)
            && long[..long.len() - short.len()].ends_with(['/', '.'])
            && long.contains("://")
    };
    asked.eq_ignore_ascii_case(given) || ends(asked, given) || ends(given, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_really_withheld_is_named() {
        let list = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        for (asked, granted, want) in [
            ("orders:read orders:write", "orders:read", "orders:write"),
            ("a b c", "c", "a b"),
            ("openid offline_access orders:read", "orders:read", ""),
            ("read,activity:read", "read activity:read", ""),
            ("read,activity:write", "read", "activity:write"),
            ("https://graph.microsoft.com/User.Read", "User.Read profile", ""),
            ("api://x/.default", "Orders.Read", ""),
            ("email", "https://www.googleapis.com/auth/userinfo.email openid", ""),
            ("Orders:Read", "orders:read", ""),
            ("read", "orders.read", "read"),
        ] {
            assert_eq!(withheld(&list(asked), &list(granted)).join(" "), want, "{asked}: {granted}");
        }
    }
}
