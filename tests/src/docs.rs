//! The Rust in the documentation, compiled, and run where it can be.

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
    Promises "promises.md"
    Deployment "deployment.md"
    Migration "migration.md"
    ExitCodes "exit-codes.md"
    Command "withlock.md"
    Recipes "recipes.md"
    Evidence "evidence.md"
}
