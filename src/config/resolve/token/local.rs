//! Tokens that no authorization server is asked for: of a helper program, of a file, or of the configuration.

use std::os::unix::fs::PermissionsExt;

use crate::config::file::Token;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::resolve::{Zero, duration};
use crate::config::secret_ref::{Variables, Wanted, Written};
use crate::secret::SecretSource;
use crate::token::CommandSettings;

/// `grant = "command"`.
pub(super) fn command(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<CommandSettings> {
    let timeout = duration(&path.key("command_timeout"), token.command_timeout, Zero::Refused, review);
    let command_path = path.key("command");
    let words = &token.command.0;
    let example = "write it as in `command = [\"/usr/local/bin/helper\", \"argument\"]`";
    let Some((program, arguments)) = words.split_first() else {
        let what = "there is no program to run";
        if review.is_given(&command_path) {
            review.error(&command_path, what, example);
        } else {
            review.missing(&command_path, what, example);
        }
        return None;
    };
    let first = review.elements(&command_path).swap_remove(0);
    if program.is_empty() {
        review.error(&first, "is empty: the first word is the program", example);
        return None;
    }
    if words.iter().any(|word| word.contains('\0')) {
        review.error(&command_path, "has a zero byte, which no argument can have", "take it out");
        return None;
    }
    if first == command_path && program.contains(char::is_whitespace) {
        let what = "is one word with spaces in it, and no shell takes it apart";
        review.error(&command_path, what, example);
        return None;
    }
    let program =
        if program.contains('/') { program_file(&first, program, review)? } else { program.clone() };
    Some(CommandSettings {
        command: [program].into_iter().chain(arguments.iter().cloned()).collect(),
        timeout,
    })
}

/// The program at a path: relative to the configuration's folder, as every file is.
fn program_file(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<String> {
    let file = review.file(path, text);
    match std::fs::metadata(&file) {
        Ok(facts) if !facts.is_file() || facts.permissions().mode() & 0o111 == 0 => {
            let what = format!("{} is not a program", file.display());
            review.error(path, what, format!("name one, or make it one: chmod +x {}", file.display()));
            return None;
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => review.warning(
            path,
            format!("the program {} does not exist", file.display()),
            "put it there; no token can be had until it is",
        ),
        Err(error) => review.warning(
            path,
            format!("the program {} cannot be seen: {}", file.display(), error.kind()),
            "put it there; no token can be had until it is",
        ),
    }
    // It was text, and so is what it was joined to, or else the folder's name is no text and the program is not found.
    Some(file.to_string_lossy().into_owned())
}

/// `grant = "file"`.
pub(super) fn file(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<SecretSource> {
    let keys = vec![("token_file", Written::File(token.token_file.as_deref()))];
    let wanted = Wanted { noun: "token", owner: "grant = \"file\"", keys };
    Some(wanted.require(path, variables, review)?.source)
}

/// `grant = "static"`.
pub(super) fn fixed(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<SecretSource> {
    let wanted = Wanted {
        noun: "token",
        owner: "grant = \"static\"",
        keys: vec![
            ("token_file", Written::File(token.token_file.as_deref())),
            ("token_env", Written::Env(token.token_env.as_deref())),
            ("token", Written::Inline(token.token.as_ref())),
        ],
    };
    let found = wanted.require(path, variables, review)?;
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if found.now.as_ref().is_some_and(|now| !fits(now.expose())) {
        let what = "has a character that no header field can carry in a token";
        review.error(&found.key, what, "write the token alone, without its scheme and without spaces");
        return None;
    }
    Some(found.source)
}
