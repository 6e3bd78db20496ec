//! Attacks out of the JSON lines of an earlier run, to be judged anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_model::{AttackId, Confidence, Signature, TcpFlags};
use tidegate_policy::Policy;
use tidegate_policy::explain::rate;
use tidegate_policy::play::{self, Recorded};

/// No line of events is longer than this, in bytes. What is behind it is not read.
const MAX_LINE: u64 = 1 << 20;

/// Reads the attacks of a file: each as it was at its last event. `policy` gives them group and
/// threshold; what is compared judges them anew.
///
/// # Errors
/// What is wrong with the file, by line.
pub fn read(path: &Path, policy: &Policy) -> Result<Vec<Recorded>, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let mut reader = BufReader::new(file);
    let mut attacks: BTreeMap<String, Recorded> = BTreeMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(format!("cannot read {shown}: {error}")),
        }
        let event: Value = serde_json::from_slice(&line).map_err(|error| {
            format!("{shown}:{number}: no JSON event: {error}; give what `--json` printed")
        })?;
        let name = event["event"].as_str().unwrap_or_default();
        if name.starts_with("attack-") {
            let recorded = attack(&event, policy)
                .ok_or_else(|| format!("{shown}:{number}: an attack without target or vector"))?;
            attacks.insert(event["attack"]["id"].to_string(), recorded);
        }
    }
    let mut attacks: Vec<Recorded> = attacks.into_values().collect();
    for (recorded, id) in attacks.iter_mut().zip(1..) {
        recorded.attack.id = AttackId(id);
    }
    Ok(attacks)
}

fn attack(event: &Value, policy: &Policy) -> Option<Recorded> {
    let attack = &event["attack"];
    let vector = attack["vectors"].get(0)?;
    let kind = vector["vector"].as_str()?.parse().ok()?;
    let confidence = Confidence::new(vector["confidence"].as_f64()?);
    let peak = &attack["peak"];
    let rate = rate(peak["packets"].as_u64()?, peak["bits"].as_u64());
    let target = attack["target"].as_str()?.parse().ok()?;
    let given = (kind, confidence, signature(&vector["signature"]));
    let begun = attack["onset_ns"].as_u64()?;
    let lasted = event["time_ns"].as_u64()?.saturating_sub(begun);
    Some(Recorded {
        attack: play::attack(policy, AttackId(1), target, given, rate),
        begins: Duration::ZERO,
        lasts: Some(Duration::from_nanos(lasted)),
    })
}

/// What the packets have in common; nothing where it is not said.
fn signature(value: &Value) -> Signature {
    let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    let word = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let words = |value: &Value| value.as_array().into_iter().flatten().filter_map(word).collect();
    let length = &value["packet_length"];
    let flags = &value["tcp_flags"];
    Signature {
        protocol: byte(&value["protocol"]),
        source_ports: words(&value["source_ports"]),
        destination_ports: words(&value["destination_ports"]),
        tcp_flags: byte(&flags["set"])
            .zip(byte(&flags["clear"]))
            .map(|(set, clear)| TcpFlags { set, clear }),
        icmp_type: byte(&value["icmp_type"]),
        packet_length: word(&length[0]).zip(word(&length[1])),
        fragments: value["fragments"].as_bool().unwrap_or_default(),
    }
}
