//! Consul's API: what is asked, and what answers say. No server is needed.

mod admin;
mod hostile;
mod keys;
mod limits;
mod replies;
mod watch;

use lock_core::http::consul::Codec;
use lock_core::http::{self, Response};
use lock_core::{Claim, Failure, LockName, Mode, Owner, Reply, Request, SessionName};
use std::time::Duration;

const ID: &str = "d6fc412b-7260-a440-99c1-bf1f6187f5ef";

fn name(text: &str) -> LockName {
    LockName::new(text).expect("a good name")
}

fn claim(text: &str) -> Claim {
    Claim::new(name(text), Owner::new(1))
}

/// The HTTP request for `request`.
fn sent(request: &Request) -> http::Request {
    Codec::default().encode(request).expect("Consul has it")
}

fn session() -> SessionName {
    SessionName::from(ID)
}

fn create() -> Request {
    let ttl = Duration::from_secs(30);
    Request::Open { owner: Owner::new(0xab), ttl }
}

fn renew() -> Request {
    Request::KeepAlive { session: session() }
}

fn destroy() -> Request {
    Request::Close { session: session() }
}

fn lock() -> Request {
    Request::Acquire {
        session: session(),
        claims: [claim("a")].into(),
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "host 1".into(),
    }
}

fn unlock() -> Request {
    Request::Release { passed_over: None, session: session(), claims: [claim("a")].into() }
}

fn watch(since: u64) -> Request {
    Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim("a"),
        since,
        up_to: Duration::from_secs(17),
        min_uptime: Duration::ZERO,
    }
}

fn all() -> Vec<Request> {
    vec![create(), renew(), destroy(), lock(), unlock(), watch(0), watch(9)]
}

fn decode(request: &Request, status: u16, body: &str) -> Result<Reply, Failure> {
    decode_at(request, status, Some("7"), body)
}

fn decode_at(
    request: &Request,
    status: u16,
    index: Option<&str>,
    body: &str,
) -> Result<Reply, Failure> {
    Codec::default().decode(request, &Response { status, index, body: body.as_bytes() })
}

/// A transaction's success.
fn entry(key: &str, modify_index: &str, session: &str) -> String {
    format!(
        r#"{{"Results":[{{"KV":{{"LockIndex":1,"Key":"{key}","Flags":3304740253564472344,"Value":null,{session}"CreateIndex":24,"ModifyIndex":{modify_index}}}}}],"Errors":null}}"#
    )
}

fn ours(modify_index: &str) -> String {
    entry("locks/a/lock", modify_index, &format!(r#""Session":"{ID}","#))
}

/// A transaction's failure.
fn denied(what: &str) -> String {
    let what = what.replace('"', "\\\"");
    format!(r#"{{"Results":null,"Errors":[{{"OpIndex":0,"What":"{what}"}}]}}"#)
}

fn watched(modify_index: &str, session: &str) -> String {
    format!(
        r#"[{{"LockIndex":1,"Key":"locks/a/lock","Flags":0,"Value":"aGk=",{session}"CreateIndex":24,"ModifyIndex":{modify_index}}}]"#
    )
}
