//! The Rust examples of the documentation: compiled, and run where possible.

macro_rules! pages {
    ($($name:ident $file:literal)*) => {$(
        #[doc = include_str!(concat!("../../docs/", $file))]
        struct $name;
    )*};
}

pages! {
    Quickstart "quickstart.md"
    Protocols "protocols.md"
    Fences "fences.md"
    Together "together.md"
    Promises "promises.md"
    Deployment "deployment.md"
    Connections "connections.md"
    Migration "migration.md"
    ExitCodes "exit-codes.md"
    Command "withlock.md"
    Metrics "metrics.md"
    Recipes "recipes.md"
    Evidence "evidence.md"
}
