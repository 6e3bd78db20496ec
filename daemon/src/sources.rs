//! Who sends: the sources of each attack, added up and put into its record.
//!
//! ```text
//!  engine task --attacks--> capture threads --parts, every 5 s and at the end--> sources thread
//!                                                                                  |
//!                                            recorder <--census, as a document-----+
//! ```
//!
//! What is counted comes after the detection: the packets before it are in the file of the incident,
//! if there is one. Bounds: [`Shares`], 64 MiB in total. An attack beyond those that are counted at a
//! time says so in its record. Nobody waits for this thread.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_detector::capture::live::{CaptureControl, Counting, SourcePart};
use tidegate_detector::census::geoip::{GeoIp, GeoIpError};
use tidegate_detector::census::{Census, Distinct, Labels, MAX_LOOKED_UP, Shares, Verdict};
use tidegate_model::{AttackEvent, AttackId, Prefix};

use crate::clock::Clock;
use crate::incident::{Note, RecorderHandle};

/// Parts of each worker that wait to be added up: what all attacks hand over at once, twice.
const PARTS_EACH: usize = 64;
/// How often what is known so far is recorded.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long is waited for the last part of the slowest worker.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sums that are kept at once, over and not over.
const MAX_SUMS: usize = 256;
/// How many talkers, countries and networks are recorded.
const MOST_LISTED: usize = 20;
/// Sources that are looked up for a report on the way.
const LOOKED_UP_ON_THE_WAY: usize = 2_000;

/// Databases in MaxMind's format that say where addresses are; either may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    /// Of countries.
    pub countries: Option<PathBuf>,
    /// Of autonomous systems.
    pub networks: Option<PathBuf>,
}

impl Databases {
    /// Reads them.
    ///
    /// # Errors
    /// [`GeoIpError`] names the file that cannot be used.
    pub fn open(&self) -> Result<GeoIp, GeoIpError> {
        GeoIp::open(self.countries.as_deref(), self.networks.as_deref())
    }
}

/// Where the engine reports attacks.
pub struct Desk {
    control: CaptureControl,
    recorder: RecorderHandle,
    clock: Clock,
    counted: Vec<(AttackId, Prefix)>,
    most: usize,
}

impl Desk {
    /// Tells of an attack. Never waits.
    pub fn report(&mut self, event: &AttackEvent) {
        match event {
            AttackEvent::Started(attack) if self.counted.len() < self.most => {
                self.counted.push((attack.id, attack.target));
            }
            AttackEvent::Started(attack) => {
                let why = format!("the sources of {} other attacks are being counted", self.most);
                let census = json!({ "not_counted": why });
                let note = Note::Census { attack: attack.id, census };
                return self.recorder.note(self.clock.now(), note);
            }
            AttackEvent::Ended(attack, _) => {
                let before = self.counted.len();
                self.counted.retain(|(counted, _)| *counted != attack.id);
                if self.counted.len() == before {
                    return;
                }
            }
            AttackEvent::Updated(_) => return,
        }
        self.control.count_sources(&self.counted);
    }
}

/// Starts the thread that adds up what `workers` threads of `control`'s capture count.
///
/// # Errors
/// If there can be no more threads.
pub fn start(
    (control, workers): (CaptureControl, usize),
    labels: GeoIp,
    clock: Clock,
    recorder: RecorderHandle,
) -> io::Result<(Counting, Desk)> {
    let shares = Shares::of(workers);
    let (parts, queue) = sync_channel::<SourcePart>(PARTS_EACH * workers.max(1));
    let on_the_way = Arc::<AtomicUsize>::default();
    let counting = Counting { octets: shares.meter, parts, on_the_way: Arc::clone(&on_the_way) };
    let to = recorder.clone();
    std::thread::Builder::new().name("sources".to_owned()).spawn(move || {
        let sums = Sums::new(workers, shares.sums);
        add_up(&queue, sums, &on_the_way, |attack, sum, most| {
            let census = document(&sum.census, &labels, most);
            to.note(clock.now(), Note::Census { attack, census });
        });
    })?;
    let desk = Desk { control, recorder, clock, counted: Vec::new(), most: shares.attacks };
    Ok((counting, desk))
}

/// The sources of one attack so far.
struct Sum {
    census: Census,
    /// Workers that count no more, and until when the others are waited for.
    done: usize,
    until: Option<Instant>,
    report_at: Instant,
}

/// The sources of all attacks so far.
struct Sums {
    all: BTreeMap<AttackId, Sum>,
    room: usize,
    workers: usize,
}

impl Sums {
    fn new(workers: usize, room: usize) -> Self {
        Self { all: BTreeMap::new(), room, workers }
    }

    fn add(&mut self, part: &SourcePart, now: Instant) {
        let SourcePart { attack, census, last } = part;
        if self.all.len() >= MAX_SUMS && !self.all.contains_key(attack) {
            return;
        }
        let new = || Sum { census: census.fresh(), done: 0, until: None, report_at: now };
        let sum = self.all.entry(*attack).or_insert_with(new);
        sum.census.merge(census, &mut self.room);
        if *last {
            sum.done += 1;
            sum.until = sum.until.or(Some(now + PATIENCE));
        }
    }

    /// Calls `report` for what is due, and forgets what is over.
    fn report(
        &mut self,
        now: Instant,
        ending: bool,
        mut report: impl FnMut(AttackId, &Sum, usize),
    ) {
        let (workers, room) = (self.workers, &mut self.room);
        self.all.retain(|attack, sum| {
            let over = ending || sum.done >= workers || sum.until.is_some_and(|until| now >= until);
            if over {
                report(*attack, sum, MAX_LOOKED_UP);
                *room += sum.census.cost();
            } else if now >= sum.report_at && sum.until.is_none() {
                sum.report_at = now + REPORT_INTERVAL;
                report(*attack, sum, LOOKED_UP_ON_THE_WAY);
            }
            !over
        });
    }
}

fn add_up(
    queue: &Receiver<SourcePart>,
    mut sums: Sums,
    on_the_way: &AtomicUsize,
    mut report: impl FnMut(AttackId, &Sum, usize),
) {
    loop {
        let received = queue.recv_timeout(PATIENCE);
        let ending = matches!(received, Err(RecvTimeoutError::Disconnected));
        for part in received.into_iter().chain(queue.try_iter()) {
            sums.add(&part, Instant::now());
            on_the_way.fetch_sub(part.census.cost(), Ordering::Relaxed);
        }
        sums.report(Instant::now(), ending, &mut report);
        if ending {
            return;
        }
    }
}

/// What the record takes in: `docs/incidents.md` describes it. `most` sources are looked up.
fn document(census: &Census, labels: &dyn Labels, most: usize) -> Value {
    let (packets, bytes) = census.counted();
    let (sources, error) = match census.distinct() {
        Distinct::Exact(sources) => (sources, None),
        Distinct::Estimate { sources, error } => (sources, Some(error)),
    };
    let talkers = census.talkers(MOST_LISTED).into_iter().map(|talker| {
        json!({
            "source": talker.source,
            "packets": talker.packets,
            "bytes": talker.bytes,
            "error": talker.error,
        })
    });
    let origins = census.origins(labels, most);
    let countries = origins.countries.into_iter().take(MOST_LISTED);
    let countries =
        countries.map(|share| json!({ "country": share.label, "sources": share.sources }));
    let networks = origins.networks.into_iter().take(MOST_LISTED).map(|share| {
        let (number, name) = share.label;
        json!({ "as": number, "name": name, "sources": share.sources })
    });
    let spoofing = census.spoofing();
    let verdict = match spoofing.verdict {
        Verdict::Forged => "forged",
        Verdict::Unclear => "unclear",
        Verdict::Plausible => "plausible",
        Verdict::TooFew => "too-few-packets",
    };
    json!({
        "packets": packets,
        "bytes": bytes,
        "sources": sources,
        "exact": error.is_none(),
        "error": error,
        "talkers": talkers.collect::<Vec<_>>(),
        "looked_up": origins.looked_up,
        "countries": countries.collect::<Vec<_>>(),
        "networks": networks.collect::<Vec<_>>(),
        "spoofing": {
            "verdict": verdict,
            "evenness": spoofing.evenness,
            "novelty": spoofing.novelty,
            "bogons": spoofing.bogons,
            "odd_ttls": spoofing.odd_ttls,
            "ttls": spoofing.ttls,
        },
    })
}

/// The same in one line, for people; `None` if it says nothing.
#[must_use]
pub fn in_words(census: &Value) -> Option<String> {
    let sources = census.get("sources")?.as_u64()?;
    let mut words = match census.get("error").and_then(Value::as_f64) {
        None => sources.to_string(),
        Some(error) => format!("about {sources} (±{:.1} %)", error * 100.0),
    };
    let of = |list: &str, label: &dyn Fn(&Value) -> Option<String>| {
        let items = census.get(list).and_then(Value::as_array)?.iter().take(3);
        let named: Vec<String> = items.filter_map(label).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let country = of("countries", &|it| Some(it.get("country")?.as_str()?.to_owned()));
    let network = of("networks", &|it| Some(format!("AS{}", it.get("as")?.as_u64()?)));
    for named in [country, network].into_iter().flatten() {
        words += &format!("; most in {named}");
    }
    match census.pointer("/spoofing/verdict").and_then(Value::as_str) {
        Some("forged") => words += "; the addresses are forged",
        Some("unclear") => words += "; the addresses may be forged",
        _ => {}
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    struct Here;

    impl Labels for Here {
        fn country(&self, address: IpAddr) -> Option<String> {
            let IpAddr::V4(address) = address else { return None };
            Some(if address.octets()[3] < 10 { "XA" } else { "XB" }.to_owned())
        }
        fn network(&self, _: IpAddr) -> Option<(u32, String)> {
            Some((64_496, "Example".to_owned()))
        }
    }

    fn part(attack: u64, sources: std::ops::Range<u8>, last: bool) -> SourcePart {
        let mut census = Census::new("203.0.113.9".parse().unwrap(), 7);
        let mut room = 1 << 20;
        for number in sources {
            let source = IpAddr::from([192, 0, 2, number]);
            let hash = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            census.add((source, hash), 60, 100, &mut room);
        }
        SourcePart { attack: AttackId(attack), census, last }
    }

    /// What is reported of the attacks, and how many sources.
    fn reported(sums: &mut Sums, now: Instant) -> Vec<(u64, u64)> {
        let mut reports = Vec::new();
        sums.report(now, false, |attack, sum, _| {
            reports.push((attack.0, sum.census.distinct().sources()));
        });
        reports
    }

    #[test]
    fn parts_of_all_workers_are_one_sum() {
        let begin = Instant::now();
        let mut sums = Sums::new(2, 1 << 20);
        sums.add(&part(1, 0..20, false), begin);
        assert_eq!(reported(&mut sums, begin), [(1, 20)]);
        sums.add(&part(1, 10..30, false), begin);
        sums.add(&part(2, 0..5, true), begin);
        assert_eq!(reported(&mut sums, begin + PATIENCE / 2), []);
        // One attack's last parts are there; the other lacks one, which is waited for a moment.
        sums.add(&part(1, 30..40, true), begin);
        sums.add(&part(1, 30..50, true), begin);
        assert_eq!(reported(&mut sums, begin + PATIENCE / 2), [(1, 50)]);
        assert_eq!(reported(&mut sums, begin + PATIENCE), [(2, 5)]);
        assert!(sums.all.is_empty() && sums.room == 1 << 20);
    }

    #[test]
    fn the_document_says_it_in_fields_and_in_words() {
        let census = part(1, 0..40, true).census;
        let document = document(&census, &Here, MAX_LOOKED_UP);
        assert_eq!(document["sources"], 40);
        assert_eq!((&document["exact"], &document["error"]), (&json!(true), &Value::Null));
        assert_eq!(document["countries"][0], json!({ "country": "XB", "sources": 30 }));
        assert_eq!(document["networks"][0]["as"], 64_496);
        assert_eq!(document["talkers"].as_array().unwrap().len(), 20);
        assert_eq!(document["spoofing"]["verdict"], "too-few-packets");
        assert_eq!(in_words(&document).unwrap(), "40; most in XB, XA; most in AS64496");
        let forged = json!({
            "sources": 3_000_000, "error": 0.008, "spoofing": { "verdict": "forged" },
        });
        let words = "about 3000000 (±0.8 %); the addresses are forged";
        assert_eq!(in_words(&forged).as_deref(), Some(words));
        assert_eq!(in_words(&json!({ "not_counted": "why" })), None);
    }
}
