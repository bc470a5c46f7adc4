//! The part of Consul that requests are about, and the path of its API.

use super::HttpRequest;
use crate::http::text;
use alloc::format;
use alloc::string::String;

/// The part of Consul that all requests are about, and the path of its API. An empty field adds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The path before `/v1`, for an agent behind a proxy, without slashes at its ends.
    pub path: String,
    /// The namespace. Consul Enterprise has namespaces; others refuse them.
    pub namespace: String,
    /// The admin partition. Consul Enterprise has partitions.
    pub partition: String,
    /// The datacenter, instead of the agent's own.
    pub datacenter: String,
}

impl Scope {
    /// The same request within this scope.
    pub(super) fn apply(&self, mut request: HttpRequest) -> HttpRequest {
        let path = &mut request.path_and_query;
        for (name, value) in self.parameters() {
            path.push(if path.contains('?') { '&' } else { '?' });
            *path += &format!("{name}={}", text::path(value));
        }
        if !self.path.is_empty() {
            *path = format!("/{}{path}", text::path(&self.path));
        }
        request
    }

    /// The parameters of a URL, those that are given.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all =
            [("ns", &self.namespace), ("partition", &self.partition), ("dc", &self.datacenter)];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| (name, &**value))
    }

    /// The fields of an operation in a transaction. Consul does not look at the parameters there, apart from
    /// the datacenter's.
    pub(super) fn fields(&self) -> String {
        let all = [("Namespace", &self.namespace), ("Partition", &self.partition)];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| format!(r#","{name}":{}"#, text::json(value))).collect()
    }
}
