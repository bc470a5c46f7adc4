//! etcd's lock service, called as `etcd-client` does, by the same crates. That one needs a compiler of protocols to build.

use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// A connection and its lease, which is the owner.
#[derive(Clone)]
pub(crate) struct Etcd {
    channel: Channel,
    lease: i64,
}

/// Longer than any run, so that nothing renews it.
const TTL: i64 = 3600;

#[derive(Clone, PartialEq, prost::Message)]
struct Grant {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Granted {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Lock {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Locked {
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Unlock {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Unlocked {}

impl Etcd {
    pub(crate) async fn connect(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let channel = endpoint.connect().await.expect("connected");
        let mut etcd = Self { channel, lease: 0 };
        let wanted = Grant { ttl: TTL, id: 0 };
        let granted: Granted = etcd.call("/etcdserverpb.Lease/LeaseGrant", wanted).await;
        etcd.lease = granted.id;
        etcd
    }

    /// Waits for a lock. Returns the key to free it by.
    pub(crate) async fn lock(&self, name: &str) -> Vec<u8> {
        let wanted = Lock { name: name.into(), lease: self.lease };
        self.call::<_, Locked>("/v3lockpb.Lock/Lock", wanted).await.key
    }

    pub(crate) async fn unlock(&self, key: Vec<u8>) {
        let Unlocked {} = self.call("/v3lockpb.Lock/Unlock", Unlock { key }).await;
    }

    async fn call<Q, A>(&self, path: &'static str, question: Q) -> A
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let answer = client.unary(tonic::Request::new(question), path, codec).await;
        answer.expect("done").into_inner()
    }
}
