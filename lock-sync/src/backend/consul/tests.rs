//! What requests become over stand-ins of agents.

use super::*;
use lock_shared::lookup::stand_in::{NO_LOCK, agent, agent_with_free_locks};
use lock_shared::place::Place;
use lock_shared::settings;
use rustls::InvalidMessage;
use std::io::{Error as Io, ErrorKind};
use std::net::TcpListener;

/// The way to the agents of this URL, and the first request to them.
fn to_ask(url: &str) -> (Requests, Request) {
    to_ask_with(url, None).expect("good")
}

/// The same with a token.
fn to_ask_with(url: &str, token: Option<&str>) -> Result<(Requests, Request), ConfigError> {
    let config = lock_shared::Config::from_url(url).expect("good");
    let (Place::Consul(server), plan) = Plan::at(config).expect("a plan") else {
        unreachable!("it is Consul's")
    };
    let settings::Codec::Session(codec) = &plan.codec else { unreachable!("it is Consul's") };
    let requests = Requests::new(codec.clone(), &server, token.map(str::to_string))?;
    let Step::Ask(request) = plan.setup().step(None) else { unreachable!("a question") };
    Ok((requests, request))
}

/// It may be a moment's fault. The agent speaks no TLS.
#[test]
fn only_the_first_connect_is_refused_by_a_handshake_that_fails() {
    let url = format!("consul://127.0.0.2:{}?sslmode=verify-full", agent(NO_LOCK));
    let (mut requests, request) = to_ask(&url);
    let limit = Duration::from_secs(60);
    let first = requests.first(&request, limit);
    assert!(matches!(first, Err(Failure::Rejected { retry: false, .. })), "{first:?}");
    let later = requests.execute(request, clock::now(), limit);
    assert!(matches!(later, Err(Failure::NotSent(_))), "{later:?}");
}

/// Otherwise each request would begin with an agent that is gone.
#[test]
fn the_agent_that_answers_is_the_first_for_the_next_request() {
    let closed = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr());
    let (gone, next) = (closed.expect("bound"), agent(NO_LOCK));
    let (requests, request) = to_ask(&format!("consul://{gone},127.0.0.2:{next}?sslmode=disable"));
    assert_eq!(requests.agents.first(), 0);
    let _answer = requests.ask(&request, Duration::from_secs(60));
    assert_eq!(requests.agents.first(), 1);
}

/// Whatever it is that keeps one from it: no route, or a TLS handshake that it breaks off.
#[test]
fn an_agent_that_cannot_be_connected_to_leaves_the_request_to_the_next() {
    let breaks_off = TcpListener::bind("127.0.0.2:0").expect("a port");
    let address = breaks_off.local_addr().expect("bound");
    std::thread::spawn(move || breaks_off.incoming().for_each(drop));
    let live = agent(NO_LOCK);
    // The second one speaks no TLS. That is found out, and so it was tried.
    let url = format!("consul://{address},127.0.0.2:{live}?sslmode=verify-full");
    let (requests, request) = to_ask(&url);
    let told = requests.ask(&request, Duration::from_secs(60)).expect_err("no TLS").to_string();
    assert!(told.contains(&address.to_string()) && told.contains(&live.to_string()), "{told}");
    // A broadcast address has no route for TCP.
    let url = format!("consul://255.255.255.255:1,127.0.0.2:{live}?sslmode=disable");
    let (requests, request) = to_ask(&url);
    let _answer = requests.ask(&request, Duration::from_secs(60));
    assert_eq!(requests.agents.first(), 1);
}

/// The engine gives each request the time that this way takes.
#[test]
fn what_the_first_connect_measured_is_handed_on() {
    let url = format!("consul://127.0.0.1:{}", agent_with_free_locks());
    let config = lock_shared::Config::from_url(&url).expect("good");
    let (Place::Consul(server), plan) = Plan::at(config).expect("a plan") else {
        unreachable!("it is Consul's")
    };
    let settings::Codec::Session(codec) = &plan.codec else { unreachable!("it is Consul's") };
    let agents = Agents::new(codec.clone(), server, &plan, plan.check());
    let reached = agents.expect("good").connect().expect("fit for locks");
    assert_ne!(reached.timing, plan.timing);
}

/// The agent is frozen, and the handshake belongs to the connect.
#[test]
fn a_connect_that_takes_too_long_has_sent_nothing() {
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = frozen.local_addr().expect("bound").port();
    let url = format!("consul://127.0.0.1:{port}?sslmode=verify-full");
    let (requests, request) = to_ask(&url);
    let late = requests.ask(&request, Duration::from_millis(400));
    assert!(matches!(late, Err(Failure::NotSent(_))), "{late:?}");
}

/// Once a request may have arrived, nothing but its answer says what became of it.
#[test]
fn only_what_was_certainly_not_sent_is_told_so() {
    let io = |kind: ErrorKind| ureq::Error::Io(Io::from(kind));
    let not_connected = |error| ureq::Error::Other(Box::new(NotConnected(error)));
    for sent in [
        ureq::Error::Timeout(Timeout::Global),
        ureq::Error::Timeout(Timeout::PerCall),
        ureq::Error::Timeout(Timeout::SendRequest),
        ureq::Error::Timeout(Timeout::SendBody),
        ureq::Error::Timeout(Timeout::RecvResponse),
        ureq::Error::Timeout(Timeout::RecvBody),
        io(ErrorKind::ConnectionReset),
        io(ErrorKind::UnexpectedEof),
        io(ErrorKind::BrokenPipe),
        io(ErrorKind::ConnectionRefused),
        // A record that is broken in use.
        ureq::Error::Io(Io::new(ErrorKind::InvalidData, rustls::Error::DecryptError)),
        ureq::Error::Rustls(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
        ureq::Error::Tls("broken"),
        panicked(),
    ] {
        let put = request_error(&sent).failure(Method::Put);
        assert!(matches!(put, Failure::Unknown(_)), "{sent:?}: {put:?}");
        let get = request_error(&sent).failure(Method::Get);
        assert!(matches!(get, Failure::NotSent(_)), "a read changes nothing: {get:?}");
    }
    for not_sent in [
        ureq::Error::Timeout(Timeout::Resolve),
        ureq::Error::Timeout(Timeout::Connect),
        ureq::Error::HostNotFound,
        ureq::Error::ConnectionFailed,
        not_connected(io(ErrorKind::ConnectionRefused)),
        not_connected(io(ErrorKind::HostUnreachable)),
        not_connected(io(ErrorKind::UnexpectedEof)),
        not_connected(ureq::Error::Timeout(Timeout::Global)),
    ] {
        let put = request_error(&not_sent).failure(Method::Put);
        assert!(matches!(put, Failure::NotSent(_)), "{not_sent:?}: {put:?}");
    }
}

/// The agent may have failed after the servers had done it.
#[test]
fn a_change_that_failed_in_the_agent_may_have_been_made() {
    const FAILED: &str =
        "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let (requests, _) = to_ask(&format!("consul://127.0.0.2:{}?sslmode=disable", agent(FAILED)));
    let close = Request::Close { session: "adf4238a-882b-9ddc-4a9d-5b6758e4159e".into() };
    let failed = requests.ask(&close, Duration::from_secs(60));
    assert!(matches!(failed, Err(Failure::Unknown(_))), "{failed:?}");
}

/// Without one, whoever asks is anonymous.
#[test]
fn a_token_that_cannot_be_sent_is_refused() {
    let refused = to_ask_with("consul://localhost", Some("two\nlines")).map(drop);
    assert!(refused.is_err());
}

/// With it, the next request waits for a change, although there is no such lock yet.
#[test]
fn an_answer_that_there_is_nothing_has_an_index() {
    const NONE: &str = "HTTP/1.1 404 Not Found\r\nX-Consul-Index: 7\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let url = format!("consul://127.0.0.2:{}?sslmode=disable", agent(NONE));
    let (requests, request) = to_ask(&url);
    let (sent, limit) = (requests.codec.encode(&request).expect("good"), Duration::from_secs(60));
    let answer = requests.send(&sent, limit);
    assert!(answer.is_ok_and(|answer| answer.index.as_deref() == Some("7")));
}
