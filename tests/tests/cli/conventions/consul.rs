//! The variables of Consul's clients, its parts, and agents behind a path.

use super::{is_refused, leads_to, run};
use lock_core::http::Method;
use lock_tests::consul::Consul;
use lock_tests::place::Place;
use lock_tests::servers::Server;
use lock_tests::withlock::Sandbox;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// The agent's address, and the prefix of keys of this test alone.
fn agent() -> (String, String) {
    let place = Place::consul();
    let (_, rest) = place.url().split_once("://").expect("a URL");
    let (address, prefix) = rest.split_once('/').expect("a prefix");
    (address.to_string(), prefix.to_string())
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn the_address_comes_from_a_variable() {
    let (sandbox, (address, prefix)) = (Sandbox::new(), agent());
    let place = format!("consul://{address}/{prefix}");
    let url = format!("consul:///{prefix}");
    for value in [address.clone(), format!("http://{address}"), format!("http://{address}/")] {
        leads_to(&sandbox, &url, &[("CONSUL_HTTP_ADDR", &value)], &place);
    }
    // The URL goes first.
    leads_to(&sandbox, &place, &[("CONSUL_HTTP_ADDR", "https://192.0.2.1")], &place);
    let plain = [("CONSUL_HTTP_ADDR", &*address), ("CONSUL_HTTP_SSL", "true")];
    is_refused(&sandbox, &url, &plain, "TLS");
    is_refused(&sandbox, &url, &[("CONSUL_HTTP_ADDR", "unix:///run/consul.sock")], "Unix socket");
    let unchecked = [plain[0], plain[1], ("CONSUL_HTTP_SSL_VERIFY", "false")];
    is_refused(&sandbox, &url, &unchecked, "CONSUL_CACERT");
    let missing = [plain[0], plain[1], ("CONSUL_CACERT", "/none.pem")];
    is_refused(&sandbox, &url, &missing, "/none.pem");
}

#[test]
#[ignore = "needs a Consul server of its own: tests/servers"]
fn the_token_comes_from_a_file() {
    let hcl = r#"acl { enabled = true default_policy = "deny" tokens { master = "0e1d3b0a-7f6b-4a5e-9a4c-5d3c2b1a0f9e" } }"#;
    let server = Server::consul_with(hcl);
    let sandbox = Sandbox::new();
    let url = server.url().replace("http://", "consul://") + "/locks";
    let token = "0e1d3b0a-7f6b-4a5e-9a4c-5d3c2b1a0f9e";
    std::fs::write(sandbox.path("token"), format!("{token}\n")).expect("written");
    let path = sandbox.path("token").display().to_string();
    let file = ("CONSUL_HTTP_TOKEN_FILE", &*path);
    lock_tests::withlock::eventually("the token is known", || {
        run(&sandbox, &url, &[file]).code == 0
    });
    leads_to(&sandbox, &url, &[file, ("CONSUL_HTTP_TOKEN", "hunter2")], "consul://");
    leads_to(&sandbox, &url, &[("CONSUL_HTTP_TOKEN", token)], "consul://");
    is_refused(&sandbox, &url, &[], "token");
    is_refused(&sandbox, &url, &[("CONSUL_HTTP_TOKEN_FILE", "/none")], "/none");
    std::fs::write(sandbox.path("token"), "").expect("written");
    is_refused(&sandbox, &url, &[file], "is empty");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn the_parts_of_consul_are_in_every_request() {
    let (sandbox, (address, prefix)) = (Sandbox::new(), agent());
    let url = format!("consul://{address}/{prefix}");
    leads_to(&sandbox, &format!("{url}?dc=dc1"), &[], &format!("{url}?dc=dc1"));
    let ended = run(&sandbox, &format!("{url}?dc=nowhere"), &[]);
    assert!(ended.code == 125 && ended.stderr.contains("datacenter"), "{ended:?}");
    // This is not Consul Enterprise.
    is_refused(&sandbox, &format!("{url}?ns=team"), &[], "Enterprise");
    is_refused(&sandbox, &url, &[("CONSUL_NAMESPACE", "team")], "Enterprise");
}

/// A proxy that serves the agent below `/consul` alone. Returns its address.
fn below_a_path(agent: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let agent = TcpStream::connect(&agent).expect("connected");
            let (mut from, mut to) =
                (client.try_clone().expect("a socket"), agent.try_clone().expect("a socket"));
            std::thread::spawn(move || {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    // Each request comes in one piece.
                    let request = text.strip_prefix("PUT /consul/v1").map(|rest| ("PUT", rest));
                    let request =
                        request.or(text.strip_prefix("GET /consul/v1").map(|rest| ("GET", rest)));
                    let sent = match request {
                        Some((method, rest)) => {
                            to.write_all(format!("{method} /v1{rest}").as_bytes())
                        }
                        None if text.starts_with(['P', 'G']) => break,
                        None => to.write_all(&bytes[..count]),
                    };
                    if sent.is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let (mut from, mut to) = (agent, client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    address
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn an_agent_may_be_behind_a_path() {
    let (sandbox, (agent, prefix)) = (Sandbox::new(), agent());
    let proxy = below_a_path(agent.clone());
    let url = format!("consul://{proxy}/{prefix}?path=/consul");
    let place = format!("consul://{proxy}/{prefix}?path=consul");
    leads_to(&sandbox, &url, &[], &place);
    let address = format!("http://{proxy}/consul/");
    let variable = [("CONSUL_HTTP_ADDR", &*address)];
    leads_to(&sandbox, &format!("consul:///{prefix}"), &variable, &place);
    // The lock is the one at the agent itself.
    let direct = format!("consul://{agent}/{prefix}");
    let holder = sandbox.hold(&direct, &["a"], "exec sleep 600");
    let ended = run(&sandbox, &url, &[]);
    assert_eq!(ended.code, 75, "{ended:?}");
    drop(holder);
    lock_tests::drivers::wait(async {
        let locks = lock_async::Locks::connect(&url).await.expect("connected");
        locks.lock("b").await.expect("locked").release().await.expect("released");
    });
    let key = format!("/v1/kv/{prefix}/b/lock");
    assert_eq!(Consul::new().raw(Method::Get, &key, "").status, 200);
}

/// The token goes to the agent, and to nobody whom a variable of HTTP clients names.
#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn no_proxy_of_the_environment_is_used() {
    let (sandbox, (address, prefix)) = (Sandbox::new(), agent());
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    proxy.set_nonblocking(true).expect("set");
    let there = format!("http://{}", proxy.local_addr().expect("bound"));
    let names =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, &*there)).collect();
    variables.extend([("NO_PROXY", ""), ("no_proxy", "")]);
    let url = format!("consul://{address}/{prefix}");
    leads_to(&sandbox, &url, &variables, &url);
    assert!(proxy.accept().is_err(), "a client came to the proxy");
}
