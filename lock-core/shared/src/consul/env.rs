//! The environment variables of Consul's own clients.

use crate::env::{Environment, wrong};
use crate::settings::Settings;
use lock_core::config::ConfigError;

const ADDRESS: &str = "CONSUL_HTTP_ADDR";
const SSL: &str = "CONSUL_HTTP_SSL";
const VERIFY: &str = "CONSUL_HTTP_SSL_VERIFY";
const TOKEN_FILE: &str = "CONSUL_HTTP_TOKEN_FILE";

/// The address of an agent.
pub(super) struct Address {
    /// Host, and the port if it is given.
    pub(super) authority: String,
    /// The path before that of Consul's API.
    pub(super) path: String,
    /// The TLS that the address asks for, or that it rules out.
    encrypted: Option<bool>,
}

impl Address {
    /// Reads the address. The default is this machine's agent.
    pub(super) fn read(env: Environment<'_>) -> Result<Self, ConfigError> {
        let text = env.text(ADDRESS)?.unwrap_or_else(|| "127.0.0.1".to_string());
        let (scheme, rest) = text.split_once("://").map_or((None, &*text), |(a, b)| (Some(a), b));
        let (encrypted, port) = match scheme {
            None => (None, ""),
            Some("http") => (Some(false), ":80"),
            Some("https") => (Some(true), ":443"),
            Some("unix") => {
                return Err(wrong(
                    ADDRESS,
                    "a Unix socket cannot be used: set it to the address of the agent's HTTP port",
                ));
            }
            Some(_) => {
                return Err(wrong(
                    ADDRESS,
                    "must be HOST:PORT, http://HOST:PORT or https://HOST:PORT",
                ));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_odd = |c: char| c.is_whitespace() || "@?#%".contains(c);
        if authority.is_empty() || rest.contains(is_odd) {
            return Err(wrong(ADDRESS, "must be HOST:PORT, http://HOST:PORT or https://HOST:PORT"));
        }
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let port = if has_port { "" } else { port };
        let (authority, path) = (format!("{authority}{port}"), path.trim_matches('/').to_string());
        Ok(Self { authority, path, encrypted })
    }
}

/// The TLS that the environment asks for, or that it rules out, for the agent at this address, or at one that
/// the URL names. As in Consul, a variable that asks for TLS goes before `http://`.
pub(super) fn encrypted(
    env: Environment<'_>,
    address: Option<&Address>,
) -> Result<Option<bool>, ConfigError> {
    let asked = env.truth(SSL)?;
    Ok(match address.and_then(|address| address.encrypted) {
        Some(encrypted) => Some(encrypted || asked == Some(true)),
        None => asked,
    })
}

/// Fails if the environment wants certificates to be accepted that are not checked.
pub(super) fn check_verify(env: Environment<'_>) -> Result<(), ConfigError> {
    match env.truth(VERIFY)? {
        Some(false) => Err(wrong(
            VERIFY,
            "the agent's certificate is always checked: name its authority in CONSUL_CACERT, and unset this variable",
        )),
        _ => Ok(()),
    }
}

/// Adds the token, the name in the certificate, the namespace and the partition, if the URL has none.
pub(super) fn complete(settings: &mut Settings, env: Environment<'_>) -> Result<(), ConfigError> {
    if settings.token.is_none() {
        settings.token = match env.path(TOKEN_FILE) {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| wrong(TOKEN_FILE, format!("{}: {error}", path.display())))?;
                let token = text.trim();
                if token.is_empty() {
                    return Err(wrong(TOKEN_FILE, format!("{} is empty", path.display())));
                }
                Some(token.to_string())
            }
            None => env.text("CONSUL_HTTP_TOKEN")?,
        };
    }
    if settings.server_name.is_none() {
        settings.server_name = env.text("CONSUL_TLS_SERVER_NAME")?;
    }
    let scope = &mut settings.scope;
    for (field, variable) in
        [(&mut scope.namespace, "CONSUL_NAMESPACE"), (&mut scope.partition, "CONSUL_PARTITION")]
    {
        if field.is_empty()
            && let Some(value) = env.text(variable)?
        {
            *field = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::place::Place;
    use crate::settings::Settings;
    use lock_core::config::ConfigError;
    use std::ffi::OsString;

    fn read(url: &str, variables: &[(&str, &str)]) -> Result<(Place, Settings), ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        crate::url::read(url, Some(crate::env::Environment::new(&variable)))
    }

    fn place(url: &str, variables: &[(&str, &str)]) -> (String, bool) {
        let (place, settings) = read(url, variables).expect(url);
        let Place::Consul(server) = &place else { panic!("{url}") };
        (place.url(&settings), server.encrypted)
    }

    #[test]
    fn the_address_is_that_of_the_url_or_of_the_environment() {
        let address = |value: &str| place("consul:///app", &[("CONSUL_HTTP_ADDR", value)]);
        for (value, url, encrypted) in [
            ("db:7", "consul://db:7/app", true),
            ("localhost:7", "consul://localhost:7/app", false),
            ("localhost", "consul://localhost:8500/app", false),
            ("db", "consul://db:8501/app", true),
            ("http://db:7", "consul://db:7/app", false),
            ("http://db", "consul://db:80/app", false),
            ("https://db", "consul://db:443/app", true),
            ("https://[::1]:7/", "consul://[::1]:7/app", true),
            ("https://db/consul/", "consul://db:443/app?path=consul", true),
            ("", "consul://127.0.0.1:8500/app", false),
        ] {
            assert_eq!(address(value), (url.to_string(), encrypted), "{value}");
        }
        let other = [("CONSUL_HTTP_ADDR", "https://other/x")];
        assert_eq!(place("consul://", &other).0, "consul://other:443/locks?path=x");
        assert_eq!(place("consul://?path=y", &other).0, "consul://other:443/locks?path=y");
        assert_eq!(place("consul://h:1/p", &other), ("consul://h:1/p".to_string(), true));
        for value in [
            "unix:///run/consul.sock",
            "ftp://h",
            "u:hunter2@h:7",
            "http://",
            "http:///x",
            "http://u@h:7",
            "http://h:7/x?y",
            "http://h:7/x y",
            "h:hunter2",
        ] {
            let told = read("consul:///app", &[("CONSUL_HTTP_ADDR", value)]);
            let told = told.map(drop).expect_err(value).to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn tls_is_as_the_url_says_or_the_environment() {
        let encrypted = |url: &str, variables: &[(&str, &str)]| place(url, variables).1;
        let (on, off) = (("CONSUL_HTTP_SSL", "true"), ("CONSUL_HTTP_SSL", "0"));
        assert!(encrypted("consul://localhost", &[on]));
        assert!(!encrypted("consul://db", &[off]));
        assert!(!encrypted("consul://db?sslmode=disable", &[on]));
        assert!(encrypted("consul://db?sslmode=verify-full", &[off]));
        assert!(encrypted("consul://localhost?sslrootcert=/ca.pem", &[off]));
        // As in Consul's own clients.
        assert!(encrypted("consul://", &[on, ("CONSUL_HTTP_ADDR", "http://localhost:7")]));
        assert!(encrypted("consul://", &[off, ("CONSUL_HTTP_ADDR", "https://localhost:7")]));
        let ca = ("CONSUL_CACERT", "/ca.pem");
        let cert = |url: &str| match read(url, &[ca]).expect(url) {
            (Place::Consul(server), _) => server.root_cert,
            _ => None,
        };
        assert!(!encrypted("consul://localhost", &[ca]));
        assert_eq!(cert("consul://localhost"), None);
        assert_eq!(cert("consul://db"), Some("/ca.pem".into()));
        assert_eq!(cert("consul://db?sslrootcert=/own.pem"), Some("/own.pem".into()));
        assert_eq!(cert("consul://db?sslrootcert=system"), None);
        let verify = ("CONSUL_HTTP_SSL_VERIFY", "false");
        let told = read("consul://db", &[verify]).map(drop).expect_err("refused").to_string();
        assert!(told.contains("CONSUL_CACERT"), "{told}");
        for url in ["consul://localhost", "consul://db?sslmode=verify-full"] {
            assert!(read(url, &[verify]).is_ok(), "{url}");
        }
        assert!(read("consul://db", &[("CONSUL_HTTP_SSL", "maybe")]).is_err());
    }

    #[test]
    fn what_leaves_this_machine_is_encrypted() {
        for here in ["localhost", "127.0.0.1", "[::1]", "localhost,127.0.0.1"] {
            assert!(!place(&format!("consul://{here}"), &[]).1, "{here}");
        }
        for there in crate::sslmode::ELSEWHERE.into_iter().chain(["localhost,db", "db,localhost"]) {
            assert!(place(&format!("consul://{there}"), &[]).1, "{there}");
        }
    }

    #[test]
    fn the_token_comes_from_the_url_or_a_file_or_a_variable() {
        let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        std::fs::write(&path, " filed\n").expect("written");
        let (file, token) = (path.display().to_string(), ("CONSUL_HTTP_TOKEN", "said"));
        let file = ("CONSUL_HTTP_TOKEN_FILE", &*file);
        let given = |url: &str, variables: &[(&str, &str)]| {
            read(url, variables).map(|(_, settings)| settings.token.unwrap_or_default())
        };
        let said = |text: &str| Ok(text.to_string());
        assert_eq!(given("consul://h", &[file, token]), said("filed"));
        assert_eq!(given("consul://h", &[token]), said("said"));
        assert_eq!(given("consul://h?token=url", &[file, token]), said("url"));
        assert_eq!(given("consul://h", &[]), said(""));
        std::fs::write(&path, "\n").expect("written");
        assert!(
            given("consul://h", &[file, token]).is_err_and(|e| e.to_string().contains("empty"))
        );
        std::fs::remove_file(&path).expect("removed");
        assert!(given("consul://h", &[file]).is_err(), "a missing file");
    }

    #[test]
    fn the_name_in_the_certificate_comes_from_the_url_or_a_variable() {
        let name = |url: &str| {
            let (_, settings) = read(url, &[("CONSUL_TLS_SERVER_NAME", "env")]).expect(url);
            settings.server_name
        };
        assert_eq!(name("consul://h").as_deref(), Some("env"));
        assert_eq!(name("consul://h?server_name=url").as_deref(), Some("url"));
    }

    #[test]
    fn the_namespace_and_the_partition_are_shown() {
        let both = [("CONSUL_NAMESPACE", "a"), ("CONSUL_PARTITION", "b")];
        assert_eq!(place("consul://h:1", &both).0, "consul://h:1/locks?ns=a&partition=b");
        assert_eq!(
            place("consul://h:1?ns=c&dc=d", &both).0,
            "consul://h:1/locks?ns=c&partition=b&dc=d"
        );
    }
}
