//! Floors under what `tidegate-lab accuracy` measures: figures may rise, not fall.

use std::process::Command;

use serde_json::Value;

#[test]
fn accuracy_does_not_fall() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-lab"))
        .args(["accuracy", "--seeds", "2", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["macro_f1"].as_f64().unwrap() >= 0.95, "{}", report["macro_f1"]);
    assert!(report["calibration_error"].as_f64().unwrap() <= 0.05);
    for trial in report["trials"].as_array().unwrap() {
        assert_eq!(trial["false_starts"], 0, "{trial}");
        assert_eq!(trial["hit"].is_null(), trial["expected"] == "nothing", "{trial}");
    }
    let filters = report["synthesis"].as_array().unwrap();
    let median = |of: &dyn Fn(&Value) -> f64| {
        let mut values: Vec<f64> =
            filters.iter().map(|it| of(&it["methods"]["synthesised"])).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let collateral = |it: &Value| {
        let of = |key: &str| it[key].as_f64().unwrap();
        of("collateral_packets").max(of("collateral_bytes"))
    };
    assert!(median(&|it| it["coverage"].as_f64().unwrap()) >= 0.99);
    assert!(median(&collateral) <= 0.001);
    for trial in filters {
        assert!(trial["methods"]["synthesised"]["rules"].as_u64().unwrap() <= 8, "{trial}");
    }
    for capture in report["recorded"].as_array().unwrap() {
        assert_eq!(capture["right"], true, "{capture}");
    }
}
