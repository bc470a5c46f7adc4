//! Every request that is ever sent to Consul, next to what was agreed on.
//!
//! `UPDATE_STATEMENTS=1 cargo test -p lock-tests --test codecs requests` writes the file anew; then read
//! the difference.

use lock_core::admin::AdminRequest;
use lock_core::http::consul::{Codec, Scope};
use lock_core::http::{self, KeyTemplate};
use lock_core::{Claim, Fence, LockName, Owner, Request, SessionName, Turn};
use std::path::Path;
use std::time::Duration;

fn claim(name: &str) -> Claim {
    let name = LockName::new(name).expect("a good name");
    Claim::new(name, Owner::new(1))
}

fn requests() -> Vec<(&'static str, Request)> {
    let session = || SessionName::from("d6fc412b-7260-a440-99c1-bf1f6187f5ef");
    let lock = |name| Request::Acquire {
        session: session(),
        claims: [claim(name)].into(),
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "host 4711 nightly".into(),
    };
    let watch = |name, since| Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim(name),
        since,
        up_to: Duration::from_millis(10_200),
        min_uptime: Duration::ZERO,
    };
    let unlock = |name, turn| {
        let claims = [Claim { turn, ..claim(name) }].into();
        Request::Release { passed_over: None, session: session(), claims }
    };
    let join = |name| Request::Join { session: session(), claims: [claim(name)].into() };
    let leave = |name| Request::Leave { session: session(), claims: [claim(name)].into() };
    let behind = |name| match watch(name, 24) {
        Request::Wait { session: none, claim, since, up_to, min_uptime, .. } => Request::Wait {
            session: none,
            claim,
            behind: Some(session()),
            since,
            up_to,
            min_uptime,
        },
        other => other,
    };
    vec![
        ("create", Request::Open { owner: Owner::new(0xab), ttl: Duration::from_secs(60) }),
        ("renew", Request::KeepAlive { session: session() }),
        ("destroy", Request::Close { session: session() }),
        ("lock; the value is \"host 4711 nightly\"", lock("nightly-report")),
        ("unlock", unlock("nightly-report", Turn::Any)),
        ("join", join("nightly-report")),
        ("unlock what was waited for in the line", unlock("nightly-report", Turn::Of(Some(9)))),
        ("leave", leave("nightly-report")),
        ("watch, at once", watch("nightly-report", 0)),
        ("watch, for a change", watch("nightly-report", 24)),
        ("watch the entry ahead", behind("nightly-report")),
        ("lock \"a \\\"b\\\\ 50%\"", lock("a \"b\\ 50%")),
        ("watch the same", watch("a \"b\\ 50%", 0)),
        ("lock \"../é//=\"", lock("../é//=")),
        ("watch the same", watch("../é//=", 0)),
    ]
}

fn admin_requests() -> [(&'static str, AdminRequest); 3] {
    let name = LockName::new("nightly-report").expect("a good name");
    [
        ("look: which locks are held", AdminRequest::List { after: None }),
        ("look: one lock", AdminRequest::Status { name: name.clone() }),
        ("break, at first", AdminRequest::Break { name, fence: Fence::new(7) }),
    ]
}

/// Each request, as `codec` makes it.
fn encoded(codec: &Codec) -> Vec<(&'static str, http::Request)> {
    let requests = requests().into_iter();
    let requests =
        requests.map(|(what, request)| (what, codec.encode(&request).expect("Consul has it")));
    let admin = admin_requests().into_iter();
    let admin =
        admin.map(|(what, request)| (what, codec.encode_admin(&request).expect("it can be asked")));
    requests.chain(admin).chain([("break, then", destroys(codec))]).collect()
}

/// The second request of a break.
fn destroys(codec: &Codec) -> http::Request {
    let [.., (_, breaks)] = admin_requests();
    let body = r#"[{"Key":"locks/nightly-report/lock","ModifyIndex":7,"Session":"d6fc412b-7260-a440-99c1-bf1f6187f5ef"}]"#;
    let found = http::Response { status: 200, index: None, body: body.as_bytes() };
    codec.follow(&breaks, &found).expect("good").expect("it is held")
}

#[test]
fn requests_are_those_agreed_on() {
    let codec = Codec::new(KeyTemplate::default(), Duration::from_secs(90));
    let scope = Scope {
        path: "consul/team a".to_string(),
        namespace: "a&b".to_string(),
        partition: "two\"".to_string(),
        datacenter: "dc-2".to_string(),
    };
    let scoped = codec.clone().within(scope);
    let everywhere = encoded(&codec).into_iter().map(|(what, request)| (what.to_string(), request));
    let within = encoded(&scoped)
        .into_iter()
        .map(|(what, request)| (format!("behind a path, in a namespace: {what}"), request));
    let mut text = String::new();
    for (what, request) in everywhere.chain(within) {
        text += &format!("### {what}\n{} {}\n", request.method.as_str(), request.path_and_query);
        if !request.body.is_empty() {
            text += &format!("\n{}\n", request.body);
        }
        text += "\n";
    }
    text.pop();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("requests/consul.http");
    if std::env::var_os("UPDATE_STATEMENTS").is_some() {
        std::fs::write(&file, &text).expect("the file can be written");
    }
    let agreed = std::fs::read_to_string(&file).expect("the file is there");
    assert!(agreed == text, "the requests have changed, to:\n{text}");
}
