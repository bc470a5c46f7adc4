//! Characters that must be escaped in a URL. A password from a generator is likely to contain some.

use lock_core::config::ConfigError;

const ESCAPES: &str = "in a user name, a password or the name of a file, write % as %25, @ as %40, / as %2F, ? as %3F, # as %23, & as %26, a space as %20";

/// Fails if a user name or password may contain a character that ends it, because the rest would be taken for
/// a host or a database. `base` is the URL before its first `?`, and `query` is what follows.
pub(super) fn check(base: &str, query: &str) -> Result<(), ConfigError> {
    let (_, rest) = base.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    if login.contains('@') {
        return Err(hint("it has more than one @"));
    }
    if login.contains(char::is_whitespace) {
        return Err(hint("it contains a space"));
    }
    if rest.contains('#') {
        return Err(hint("it contains a #"));
    }
    if path.contains('@') {
        return Err(hint("an @ comes after the first /"));
    }
    let port = hosts.rsplit(',').next().and_then(|host| host.rsplit_once(':'));
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b']');
    if path.is_empty() && query.contains('@') && port.is_some_and(|(_, port)| !is_port(port)) {
        return Err(stray());
    }
    Ok(())
}

/// The error for parameters that may be the rest of a password. It does not repeat them.
pub(super) fn stray() -> ConfigError {
    hint("what follows the first ? is no list of parameters")
}

fn hint(what: &str) -> ConfigError {
    ConfigError::Url(format!("{what}: {ESCAPES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> Option<String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        check(base, query).err().map(|error| error.to_string())
    }

    #[test]
    fn raw_characters_of_a_password_get_a_hint_that_does_not_repeat_it() {
        for (url, says) in [
            ("postgres://u:hun@ter2@h/d", "more than one @"),
            ("mysql://u:hun@ter2@h/d", "more than one @"),
            ("postgres://u:hun#ter2@h/d", "contains a #"),
            ("mysql://u:#hunter2@h/d", "contains a #"),
            ("postgres://u:hun/ter2@h/d", "after the first /"),
            ("postgres://u:123/ter2@h/d", "after the first /"),
            ("mysql://hun/ter2@h", "after the first /"),
            ("mysql://u:hun ter2@h/d", "a space"),
            ("postgres://u:hun?ter2@h/d", "the first ?"),
            ("postgres://u:hun?ter=2@h/d", "the first ?"),
            ("mysql://u:hun?ter=2@h/d?ttl=5", "the first ?"),
        ] {
            let told = told(url).expect(url);
            assert!(told.contains(says) && told.contains("%40"), "{url}: {told}");
            assert!(!told.contains("hun") && !told.contains("ter2"), "{url}: {told}");
        }
    }

    #[test]
    fn what_is_escaped_or_elsewhere_is_fine() {
        for url in [
            "postgres://u:p%40%2F%3F%23%20@h/d",
            "postgres://h:5432?user=a@b",
            "postgres://[::1]?user=a@b",
            "postgres://[::1]:7?user=a@b",
            "postgres://a:1,b?user=a@b",
            // What is wrong with the port is told by its parser.
            "postgres://h:x/d?user=a@b",
            "postgres:///d?host=/a/b&password=@#/?",
            "mysql://u@h/a b?label=x#y z",
        ] {
            assert_eq!(told(url), None, "{url}");
        }
    }
}
