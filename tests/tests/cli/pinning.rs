//! A script pins the lock that it runs under, with what its environment tells it.

use lock_tests::place::Place;
use lock_tests::transcript::blocks;
use lock_tests::user::User;
use lock_tests::withlock::{Sandbox, url};

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_script_on_the_page_about_fences_pins() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fences.md");
    let page = std::fs::read_to_string(page).expect("read");
    let [script] = <[String; 1]>::try_from(blocks(&page, "sh")).expect("one script");
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    let (table, data) = (place.table(), format!("{}_report", place.table()));
    let script = script
        .replace("FROM locks", &format!("FROM {table}"))
        .replace("UPDATE report", &format!("UPDATE {data}"));
    std::fs::write(sandbox.path("report.sh"), &script).expect("written");
    let mut user = User::of(&place);
    user.does(&format!("CREATE TABLE {data} AS SELECT 'monday' AS day, 0 AS total"));
    let total = format!("SELECT total FROM {data}");
    let run = |fence: Option<&str>| {
        let words = ["report", "--", "sh", "report.sh"];
        let mut command = sandbox.withlock(&url(&place), &words);
        if let Some(fence) = fence {
            command = sandbox.command("sh");
            command.arg("report.sh").env("WITHLOCK_NAME", "report").env("WITHLOCK_FENCE", fence);
        }
        sandbox.start(command.env("DATABASE_URL", place.url())).end()
    };
    let ours = run(None);
    assert_eq!((ours.code, &*user.does(&total)), (0, &[200][..]), "{ours:?}");
    user.does(&format!("UPDATE {data} SET total = 1"));
    // Under no lock, and as one whose lock was granted to another since.
    let late = run(Some("33"));
    assert_eq!((late.code, &*user.does(&total)), (3, &[1][..]), "{late:?}");
    user.does(&format!("DROP TABLE {data}"));
}
