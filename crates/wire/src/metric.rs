//! Names, units and meanings of this crate's metrics.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

const REQUESTS: &str = "knarr_http_requests_total";
const REQUEST_SECONDS: &str = "knarr_http_request_duration_seconds";

/// Hands units and help to the installed recorder.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "requests answered, by route and answer code (0 = success)");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "time from a request's head to its answer's head, by route and answer code"
    );
}

/// Counts one answered request.
pub(crate) fn record(route: &'static str, code: &'static str, took: Duration) {
    counter!(REQUESTS, "route" => route, "code" => code).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route, "code" => code).record(took.as_secs_f64());
}
