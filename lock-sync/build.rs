//! Links `withlock` at a fixed address, as Go programs are: it starts itself twice for each command, and
//! moving twenty thousand pointers took a quarter of each start. Its libraries, heap and stack
//! still get addresses by chance.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if std::env::var_os("CARGO_FEATURE_CLI").is_some()
        && is_set("CARGO_CFG_TARGET_OS", "linux")
        && is_set("CARGO_CFG_TARGET_ENV", "gnu")
    {
        println!("cargo::rustc-link-arg-bin=withlock=-no-pie");
    }
}
