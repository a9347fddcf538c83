//! Deletes by filter, from the confirmation to durable.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{self, Bench, TABLE};
use crate::client::Client;
use crate::data::{self, Row, Shape};
use crate::measure::{self, Noise, Spread, print_table};

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    bench.print_disk()?;
    let small = measure(bench, "0.3 %", "", data::small_filter(), data::is_small)?;
    let big = measure(bench, "30 %", "0.05 s", data::big_filter(), data::is_big)?;
    print_table(
        &["delete", "reach", "confirm to done s (min..max)", "create to confirm s", "rows", "foreign cpu"],
        &[small, big],
    );
    Ok(())
}

/// Every run has its own copy of the table. After the last the process is killed and the rows are looked for.
fn measure(
    bench: &Bench,
    name: &str,
    reach: &str,
    filter: Value,
    matches: fn(&Row) -> bool,
) -> io::Result<Vec<String>> {
    let expected = Shape::new().rows(0, 0, bench.rows).filter(matches).count() as u64;
    let (mut deletes, mut scans, mut foreign) = (Vec::new(), Vec::new(), 0f64);
    for _ in 0..bench.n {
        let data = bench.scratch()?;
        let server = bench.start(&data)?;
        let mut client = server.client();
        let noise = Noise::start(server.pid());
        let created = measure::now();
        let params = json!({"collection_name": TABLE, "filter": filter});
        let task = bench::create_task(&mut client, "filter_delete", params);
        bench::wait(&mut client, &task, "confirm", Duration::from_millis(2));
        let confirmed = measure::now();
        client.must("/api/task/update", &json!({"task_id": task, "task_status": "confirmed"}));
        let info = bench::wait(&mut client, &task, "done", Duration::from_millis(1));
        deletes.push(measure::now() - confirmed);
        scans.push(confirmed - created);
        foreign = foreign.max(noise.read());
        assert_eq!(info["total_deleted_count"], expected, "{info}");
        server.kill();
        let server = bench.start(&data)?;
        check(&mut server.client(), matches);
        bench::stop(server)?;
        bench.remove(&data)?;
    }
    Ok(vec![
        name.to_owned(),
        reach.to_owned(),
        Spread::of(deletes).show(3),
        Spread::of(scans).show(3),
        expected.to_string(),
        format!("{foreign:.2}"),
    ])
}

/// The deleted rows of the first thousand are gone, the others are not.
fn check(client: &mut Client, matches: fn(&Row) -> bool) {
    for row in Shape::new().rows(0, 0, 1000) {
        let body = json!({"collection_name": TABLE, "primary_keys": [row.id]});
        let gone = client.must("/api/collection/fetch_data", &body)[0]["message"] == "no data found";
        assert_eq!(gone, matches(&row), "row {} after the delete", row.id);
    }
}
