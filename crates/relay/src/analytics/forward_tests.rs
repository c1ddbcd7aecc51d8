//! The forwarder on simulated time, against a SaaS and a disk that do what each test says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::analytics::{Appended, PostError, Taken, aggregate::Aggregate, post};

const SECOND: Duration = Duration::from_secs(1);

/// What SaaS does with the next post of an environment; at last it takes it.
#[derive(Clone, Debug)]
enum Answer {
    Take,
    Later(Option<u64>),
    TooLarge(usize),
    Refuse,
    /// Refuses bodies that name this flag.
    Dislike(&'static str),
    Hang,
    Slow(Duration),
}

#[derive(Default)]
struct Saas {
    script: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    /// When which environment was posted, and how many bytes.
    posts: Mutex<Vec<(Instant, String, usize)>>,
    totals: Mutex<BTreeMap<(String, String), i64>>,
}

impl Saas {
    fn script(&self, environment: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut script = self.script.lock().unwrap();
        script
            .entry(environment.into())
            .or_default()
            .extend(answers);
    }

    fn times(&self, environment: &str) -> Vec<Instant> {
        let posts = self.posts.lock().unwrap();
        let of = posts.iter().filter(|(_, e, _)| e == environment);
        of.map(|(time, ..)| *time).collect()
    }

    fn total(&self, environment: &str, flag: &str) -> i64 {
        let totals = self.totals.lock().unwrap();
        totals
            .get(&(environment.into(), flag.into()))
            .copied()
            .unwrap_or_default()
    }

    fn all(&self, environment: &str) -> i64 {
        let totals = self.totals.lock().unwrap();
        totals
            .iter()
            .filter(|((e, _), _)| e == environment)
            .map(|(_, n)| n)
            .sum()
    }

    fn flags(body: &[u8]) -> Vec<(String, i64)> {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let entries = body["metricsData"].as_array().cloned().unwrap_or_default();
        let flag = |e: &serde_json::Value| {
            let flag = e["attributes"][0]["value"].as_str().unwrap().to_owned();
            (flag, e["count"].as_i64().unwrap())
        };
        entries.iter().map(flag).collect()
    }

    fn take(&self, environment: &str, body: &[u8]) {
        for (flag, count) in Self::flags(body) {
            *self
                .totals
                .lock()
                .unwrap()
                .entry((environment.into(), flag))
                .or_default() += count;
        }
    }
}

impl Post for Saas {
    fn post<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        part: &'a Aggregate,
    ) -> BoxFuture<'a, Result<Receipt, PostError>> {
        let (id, body) = (environment.as_str(), part.body());
        let now = (Instant::now(), id.to_owned(), body.len());
        self.posts.lock().unwrap().push(now);
        let next =
            self.script
                .lock()
                .unwrap()
                .get_mut(id)
                .and_then(|answers| match answers.front()? {
                    stays @ (Answer::TooLarge(_) | Answer::Dislike(_)) => Some(stays.clone()),
                    _ => answers.pop_front(),
                });
        Box::pin(async move {
            match next.unwrap_or(Answer::Take) {
                Answer::Later(after) => {
                    return Err(PostError::Later(
                        after.map(Duration::from_secs),
                        "503".into(),
                    ));
                }
                Answer::TooLarge(most) if body.len() > most => return Err(PostError::TooLarge),
                Answer::Refuse => return Err(PostError::Refused("404".into())),
                Answer::Dislike(flag) if Self::flags(&body).iter().any(|(f, _)| f == flag) => {
                    return Err(PostError::Invalid("400".into()));
                }
                Answer::Hang => std::future::pending().await,
                Answer::Slow(time) => tokio::time::sleep(time).await,
                _ => {}
            }
            self.take(id, &body);
            Ok(Receipt::Safe)
        })
    }
}

/// A disk that is never slow, and broken when told so.
#[derive(Default)]
struct Disk {
    records: Mutex<BTreeMap<u64, (String, Bytes)>>,
    next: Mutex<u64>,
    is_broken: Mutex<bool>,
    gap: Mutex<bool>,
}

impl Disk {
    fn keep(&self, environment: &EnvironmentId, body: Bytes) -> (u64, bool) {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let kept = !*self.is_broken.lock().unwrap();
        if kept {
            let record = (environment.to_string(), body);
            self.records.lock().unwrap().insert(*next, record);
        } else {
            *self.gap.lock().unwrap() = true;
        }
        (*next, kept)
    }

    fn totals(&self) -> BTreeMap<String, i64> {
        let mut totals = BTreeMap::new();
        for (environment, body) in self.records.lock().unwrap().values() {
            let sum: i64 = Saas::flags(body).iter().map(|(_, n)| n).sum();
            *totals.entry(environment.clone()).or_default() += sum;
        }
        totals
    }
}

impl Journal for Disk {
    fn append(&self, environment: &EnvironmentId, body: Bytes) -> Appended {
        let (number, kept) = self.keep(environment, body);
        Appended {
            number,
            kept: Box::pin(async move { kept }),
        }
    }

    fn replace(
        &self,
        records: Vec<u64>,
        rest: Option<(&EnvironmentId, Bytes)>,
    ) -> Option<Appended> {
        self.records
            .lock()
            .unwrap()
            .retain(|number, _| !records.contains(number));
        rest.map(|(environment, body)| self.append(environment, body))
    }

    fn has_gap(&self) -> bool {
        !*self.is_broken.lock().unwrap() && std::mem::take(&mut *self.gap.lock().unwrap())
    }
}

struct Rig {
    saas: Arc<Saas>,
    disk: Arc<Disk>,
    metrics: Arc<Metrics>,
    analytics: Arc<Analytics>,
    running: JoinHandle<()>,
}

fn rig_with(change: impl FnOnce(&mut Setup)) -> Rig {
    let (saas, disk) = (Arc::new(Saas::default()), Arc::new(Disk::default()));
    let metrics = Arc::new(Metrics::new(&[""]));
    let mut setup = Setup {
        post: saas.clone(),
        pace: Some(Pace::to_saas(60 * SECOND)),
        limits: Limits::default(),
        journal: Some(disk.clone()),
        stream: None,
        sent_is_safe: false,
        tells_depth: true,
        metrics: metrics.clone(),
    };
    change(&mut setup);
    let (analytics, forwarder) = setup.build();
    let running = tokio::spawn(forwarder.run());
    Rig {
        saas,
        disk,
        metrics,
        analytics,
        running,
    }
}

fn rig() -> Rig {
    rig_with(|_| {})
}

fn body(flag: &str, count: i64) -> Bytes {
    let attributes = json!([{"key": "featureIdentifier", "value": flag}]);
    json!({"metricsData": [{"timestamp": 1, "count": count, "attributes": attributes}]})
        .to_string()
        .into()
}

impl Rig {
    async fn post(&self, environment: &str, flag: &str, count: i64) -> Taken {
        self.analytics
            .take(&environment.into(), body(flag, count))
            .await
            .unwrap()
    }

    /// Lets time pass until a condition holds; how long that took.
    async fn until(&self, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !holds(self) {
            assert!(started.elapsed() < Duration::from_hours(24), "never came");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        started.elapsed()
    }

    fn dropped(&self, reason: &str) -> u64 {
        let text = self.metrics.encode();
        let line = format!("ff_proxy_metrics_dropped{{reason=\"{reason}\"}} ");
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        value.map_or(0, |n| n.parse().unwrap())
    }

    fn gauge(&self, name: &str) -> f64 {
        let text = self.metrics.encode();
        let value = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn posts_are_summed_and_sent_once_an_interval() {
    let rig = rig();
    for _ in 0..10 {
        assert_eq!(rig.post("e", "f", 2).await, Taken::Disk);
    }
    let took = rig.until(|rig| rig.saas.total("e", "f") == 20).await;
    assert!(took >= 59 * SECOND && took <= 61 * SECOND, "{took:?}");
    assert_eq!(rig.saas.times("e").len(), 1);
    assert!(rig.disk.records.lock().unwrap().is_empty());
    // What comes afterwards has an interval of its own.
    tokio::time::sleep(100 * SECOND).await;
    rig.post("e", "f", 1).await;
    let took = rig.until(|rig| rig.saas.total("e", "f") == 21).await;
    assert!(took >= 59 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_megabyte_is_sent_at_once_in_parts_of_no_more() {
    let rig = rig();
    for n in 0..2_500 {
        rig.post("e", &format!("{n}-{}", "x".repeat(900)), 1).await;
    }
    let took = rig.until(|rig| rig.saas.all("e") >= 1_000).await;
    assert!(took < SECOND, "{took:?}");
    rig.until(|rig| rig.saas.all("e") == 2_500).await;
    let posts = rig.saas.posts.lock().unwrap();
    assert!(
        posts.iter().all(|(_, _, size)| *size < 1_000_100),
        "{posts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_environment_holds_up_no_other() {
    let rig = rig();
    for n in 0..40 {
        let slow = format!("slow-{n}");
        rig.saas.script(&slow, vec![Answer::Slow(60 * SECOND); 2]);
        rig.saas.script(&slow, [Answer::Later(None), Answer::Hang]);
        rig.post(&slow, "f", 1).await;
    }
    for _ in 0..10 {
        rig.post("well", "f", 1).await;
        tokio::time::sleep(60 * SECOND).await;
    }
    rig.until(|rig| rig.saas.total("well", "f") == 10).await;
}

#[tokio::test(start_paused = true)]
async fn failures_leave_room_for_environments_that_are_well() {
    let rig = rig();
    for n in 0..40 {
        let bad = format!("bad-{n}");
        rig.saas.script(&bad, [Answer::Later(None), Answer::Hang]);
        rig.post(&bad, "f", 1).await;
    }
    tokio::time::sleep(120 * SECOND).await;
    rig.post("well", "f", 1).await;
    let took = rig.until(|rig| rig.saas.total("well", "f") == 1).await;
    assert!(took <= 61 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_repeated_after_its_back_off_and_what_saas_asks_for() {
    let rig = rig();
    rig.saas.script("e", vec![Answer::Later(None); 6]);
    rig.saas
        .script("e", [Answer::Later(Some(200)), Answer::Take]);
    rig.post("e", "f", 5).await;
    rig.until(|rig| rig.saas.total("e", "f") == 5).await;
    let times = rig.saas.times("e");
    let waits: Vec<f64> = times
        .windows(2)
        .map(|w| (w[1] - w[0]).as_secs_f64())
        .collect();
    for (n, wait) in waits.iter().take(6).enumerate() {
        let step = f64::from(1 << n);
        assert!(*wait >= step / 2.0 && *wait <= step + 0.1, "{waits:?}");
    }
    assert!(waits[6] >= 200.0, "{waits:?}");
    // Nothing that comes meanwhile shortens it, and all of it is sent once.
    assert_eq!(rig.saas.total("e", "f"), 5);
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_saas_loses_nothing_and_posts_little() {
    let rig = rig();
    rig.saas.script("e", vec![Answer::Later(None); 10_000]);
    for second in 0..3_600 {
        rig.post("e", &format!("f{}", second % 7), 1).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(rig.disk.totals()["e"], 3_600);
    assert!(rig.gauge("ff_proxy_metrics_waiting") >= 7.0);
    assert!(rig.gauge("ff_proxy_metrics_waiting_bytes") < 10_000.0);
    rig.saas.script.lock().unwrap().clear();
    rig.until(|rig| rig.saas.all("e") == 3_600).await;
    assert!(
        rig.saas.times("e").len() < 60,
        "{}",
        rig.saas.times("e").len()
    );
    assert!(rig.disk.records.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_halved_until_it_fits_or_cannot_be() {
    let rig = rig();
    rig.saas.script("e", [Answer::TooLarge(500)]);
    for n in 0..50 {
        rig.post("e", &n.to_string(), 1).await;
    }
    rig.post("e", &"x".repeat(600), 1).await;
    rig.until(|rig| rig.saas.all("e") == 50).await;
    rig.until(|rig| rig.dropped("too_large") == 1).await;
    assert!(rig.disk.records.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_entry_that_saas_dislikes_costs_no_other() {
    let rig = rig();
    rig.saas.script("e", [Answer::Dislike("1234")]);
    for n in 0..5_000 {
        rig.post("e", &n.to_string(), 1).await;
    }
    rig.until(|rig| rig.saas.all("e") == 4_999).await;
    assert_eq!(rig.dropped("refused"), 1);
    assert!(rig.saas.times("e").len() < 40);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_set_aside_once() {
    let rig = rig();
    rig.saas.script("e", [Answer::Refuse]);
    rig.post("e", "f", 1).await;
    rig.post("other", "f", 1).await;
    rig.until(|rig| rig.dropped("refused") == 1).await;
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(
        (rig.saas.times("e").len(), rig.saas.total("other", "f")),
        (1, 1)
    );
    assert!(rig.disk.records.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_posts_under_way_and_sends_nothing_twice() {
    let rig = rig();
    rig.saas.script("e", [Answer::Slow(5 * SECOND)]);
    rig.post("e", "f", 1).await;
    rig.until(|rig| rig.saas.times("e").len() == 1).await;
    rig.post("e", "f", 1).await;
    rig.post("other", "f", 1).await;
    let started = Instant::now();
    assert!(rig.analytics.flush(20 * SECOND).await);
    assert!(started.elapsed() <= 6 * SECOND);
    assert_eq!(
        (rig.saas.total("e", "f"), rig.saas.total("other", "f")),
        (2, 1)
    );
    // What comes while it stops goes at once.
    rig.post("late", "f", 1).await;
    assert!(rig.analytics.flush(20 * SECOND).await);
    assert_eq!(rig.saas.total("late", "f"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flush_overrides_back_off_and_ends_in_time() {
    let rig = rig();
    rig.saas.script("e", vec![Answer::Later(Some(300)); 2]);
    rig.saas.script("gone", vec![Answer::Later(None); 10_000]);
    rig.post("e", "f", 1).await;
    rig.post("gone", "f", 1).await;
    tokio::time::sleep(70 * SECOND).await;
    assert!(!rig.analytics.flush(8 * SECOND).await);
    assert_eq!(rig.saas.total("e", "f"), 1);
    // The other is still on disk for the next start.
    assert_eq!(rig.disk.totals(), BTreeMap::from([("gone".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_the_process_ended_is_still_on_disk() {
    let rig = rig();
    rig.saas.script("e", [Answer::Hang]);
    rig.post("e", "f", 3).await;
    rig.until(|rig| rig.saas.times("e").len() == 1).await;
    rig.post("e", "f", 4).await;
    rig.running.abort();
    assert_eq!(rig.disk.totals()["e"], 7);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_taken_is_not_on_disk_any_more() {
    let rig = rig();
    rig.saas.script(
        "e",
        [Answer::Later(None), Answer::Take, Answer::Later(Some(300))],
    );
    for n in 0..1_500 {
        rig.post("e", &format!("{n}-{}", "x".repeat(900)), 1).await;
    }
    rig.until(|rig| rig.saas.times("e").len() == 3).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(rig.disk.totals()["e"] + rig.saas.all("e"), 1_500);
    assert!(rig.saas.all("e") > 0);
    assert_eq!(rig.disk.records.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_are_summed_up_on_disk_when_they_are_many() {
    let rig = rig();
    rig.saas.script("e", vec![Answer::Later(None); 10_000]);
    let filler = json!({"metricsData": [{"count": 1, "attributes": [{"key": "featureIdentifier", "value": "f"}]}], "unknown": "x".repeat(30_000)});
    let filler = Bytes::from(filler.to_string());
    for _ in 0..3_000 {
        rig.analytics
            .take(&"e".into(), filler.clone())
            .await
            .unwrap();
    }
    tokio::time::sleep(3 * SECOND).await;
    let records = rig.disk.records.lock().unwrap();
    let size: usize = records.values().map(|(_, body)| body.len()).sum();
    assert!(size <= WASTE, "{size}");
    drop(records);
    assert_eq!(rig.disk.totals()["e"], 3_000);
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_disk_did_not_keep_is_kept_once_it_works_again() {
    let rig = rig();
    rig.post("e", "f", 1).await;
    *rig.disk.is_broken.lock().unwrap() = true;
    let started = Instant::now();
    assert_eq!(rig.post("e", "f", 2).await, Taken::Memory);
    assert!(started.elapsed() <= Duration::from_millis(260));
    *rig.disk.is_broken.lock().unwrap() = false;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(rig.disk.totals()["e"], 3);
    rig.until(|rig| rig.saas.all("e") == 3).await;
    assert!(rig.disk.records.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_for_the_relay_as_a_whole_and_a_flood_leaves_others_their_share() {
    let rig = rig_with(|setup| {
        setup.limits.all_bytes = 1 << 20;
        setup.limits.each.bytes = 800 << 10;
        setup.limits.environments = 50;
    });
    let posts = |n| {
        let aggregate = post::parse(&body(&format!("{n}-{}", "x".repeat(2_000)), 1))
            .unwrap()
            .aggregate;
        aggregate.memory()
    };
    for environment in ["a", "b", "c"] {
        rig.saas
            .script(environment, vec![Answer::Later(None); 10_000]);
        for n in 0..600 {
            rig.post(environment, &format!("{n}-{}", "x".repeat(2_000)), 1)
                .await;
        }
    }
    tokio::time::sleep(2 * SECOND).await;
    let held = rig.gauge("ff_proxy_metrics_waiting_bytes");
    assert!(held <= f64::from((1 << 20) + 50 * (16 << 10)), "{held}");
    let lost = rig.dropped("bytes");
    assert!(lost > 0 && posts(0) > 2_000);
    // Somebody else still gets through, and is not lost.
    rig.post("quiet", "f", 7).await;
    rig.until(|rig| rig.saas.total("quiet", "f") == 7).await;
    assert_eq!(rig.dropped("bytes"), lost);
    // Slots of environments that are done are free again.
    for n in 0..500 {
        rig.post(&format!("e{n}"), "f", 1).await;
        if n % 40 == 0 {
            tokio::time::sleep(61 * SECOND).await;
        }
    }
    assert_eq!(rig.dropped("environments"), 0);
    for n in 0..100 {
        rig.post(&format!("g{n}"), "f", 1).await;
    }
    tokio::time::sleep(SECOND).await;
    assert!(rig.dropped("environments") >= 50);
}

#[tokio::test(start_paused = true)]
async fn without_a_disk_it_is_memory_and_told_so() {
    let rig = rig_with(|setup| setup.journal = None);
    assert_eq!(rig.post("e", "f", 1).await, Taken::Memory);
    assert!(
        rig.metrics
            .encode()
            .contains("ff_proxy_metrics_taken{kept=\"memory\"} 1")
    );
}

#[tokio::test(start_paused = true)]
async fn where_sending_makes_safe_the_answer_waits_for_it_at_most_250_ms() {
    let rig = rig_with(|setup| {
        setup.journal = None;
        setup.sent_is_safe = true;
        setup.pace = Some(Pace {
            interval: Duration::ZERO,
            ..Pace::to_saas(SECOND)
        });
    });
    rig.saas.script(
        "e",
        [
            Answer::Slow(Duration::from_millis(100)),
            Answer::Slow(SECOND),
        ],
    );
    let started = Instant::now();
    assert_eq!(rig.post("e", "f", 1).await, Taken::Stream);
    assert_eq!(started.elapsed().as_millis(), 100);
    assert_eq!(rig.post("e", "f", 1).await, Taken::Memory);
    assert_eq!(started.elapsed().as_millis(), 350);
    rig.until(|rig| rig.saas.total("e", "f") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_while_one_is_sent_share_the_next() {
    let rig = rig_with(|setup| {
        setup.journal = None;
        setup.sent_is_safe = true;
        setup.pace = Some(Pace {
            interval: Duration::ZERO,
            ..Pace::to_saas(SECOND)
        });
    });
    rig.saas
        .script("e", vec![Answer::Slow(Duration::from_millis(50)); 10]);
    let posts = (0..100).map(|_| rig.post("e", "f", 1));
    let taken = futures_util::future::join_all(posts).await;
    assert!(taken.iter().all(|taken| *taken == Taken::Stream));
    assert_eq!(rig.saas.total("e", "f"), 100);
    assert!(rig.saas.times("e").len() <= 3);
}

#[tokio::test(start_paused = true)]
async fn switched_off_everything_is_taken_and_discarded() {
    let rig = rig_with(|setup| setup.pace = None);
    assert_eq!(rig.post("e", "f", 1).await, Taken::Discarded);
    assert!(rig.analytics.take(&"e".into(), "[".into()).await.is_err());
    assert!(rig.analytics.flush(SECOND).await);
    tokio::time::sleep(600 * SECOND).await;
    assert!(rig.saas.posts.lock().unwrap().is_empty() && rig.disk.totals().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_identifier_that_could_change_a_url_is_refused() {
    let rig = rig();
    for id in ["", "..", "a/b", "a?b", "a%2e", "ä", &"x".repeat(129)] {
        assert!(
            rig.analytics.take(&id.into(), body("f", 1)).await.is_err(),
            "{id}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn usage_is_counted_by_entry_when_it_is_sent() {
    let rig = rig();
    let attributes = json!([
        {"key": "featureIdentifier", "value": "f"}, {"key": "SDK_TYPE", "value": "server"},
        {"key": "JAR_VERSION", "value": "1.2"}, {"key": "SDK_LANGUAGE", "value": "java"},
    ]);
    let body = json!({"metricsData": [{"count": 9, "attributes": attributes}]});
    rig.analytics
        .take(&"e".into(), body.to_string().into())
        .await
        .unwrap();
    let line = r#"ff_proxy_sdk_usage{envID="e",sdk_language="java",sdk_type="server",sdk_version="1.2"} 1"#;
    assert!(!rig.metrics.encode().contains("ff_proxy_sdk_usage{"));
    rig.until(|rig| rig.metrics.encode().contains(line)).await;
}
