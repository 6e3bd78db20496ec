//! BIRD's own way: static routes in included files, then `configure` on the control socket.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::receiver::start_bird;
use super::{ANNOUNCER, Announcer, BenchError, Killed, Link, route, system};
use crate::interop::Kind;
use crate::lab::bird::Control;

/// BIRD as announcer.
pub(super) struct Bird {
    control: Control,
    /// Include file of each kind and what it holds.
    files: [(PathBuf, String); 2],
    #[expect(dead_code, reason = "held for its end")]
    process: Killed,
}

impl Bird {
    pub(super) fn start(link: Link, directory: &Path) -> Result<Self, BenchError> {
        let files = ["rtbh.conf", "flow.conf"].map(|name| (directory.join(name), String::new()));
        for (path, text) in &files {
            fs::write(path, text).map_err(system("write BIRD's routes"))?;
        }
        let [(rtbh, _), (flow, _)] = &files;
        let text = format!(
            "router id 192.0.2.20; protocol device {{ }}
ipv4 table master4; flow4 table flowtab4;
protocol static blackholes {{ ipv4;
include \"{}\";
}}
protocol static rules {{ flow4 {{ table flowtab4; }};
include \"{}\";
}}
protocol bgp bench {{ local {ANNOUNCER} as 65010; neighbor {} port {} as 65001; multihop 2;
  connect delay time 1; connect retry time 1; interpret communities off;
  ipv4 {{ import none; export where source = RTS_STATIC; next hop self; }};
  flow4 {{ table flowtab4; import none; export all; }};
}}
",
            rtbh.display(),
            flow.display(),
            Ipv4Addr::LOCALHOST,
            link.port
        );
        let (process, control) = start_bird(directory, "bench-announcer", &text)?;
        Ok(Self { control, files, process })
    }
}

impl Announcer for Bird {
    fn announce(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        let [rtbh, flow] = &mut self.files;
        let (path, text) = match kind {
            Kind::Rtbh => rtbh,
            Kind::FlowSpec => flow,
        };
        text.extend(range.map(|index| route::bird(kind, index)));
        let begin = Instant::now();
        fs::write(path, text).map_err(system("write BIRD's routes"))?;
        self.control.ask("configure")?;
        Ok(begin)
    }
}
