use super::*;
use crate::api::descriptors;

#[test]
fn every_method_has_its_role() {
    let pool = descriptors();
    let mut unknown = Vec::new();
    let mut count = 0;
    for service in pool.services().filter(|it| it.package_name() == "tidegate.v1") {
        for method in service.methods() {
            count += 1;
            let known =
                NEEDED.iter().any(|(of, name, _)| *of == service.name() && *name == method.name());
            if !known {
                unknown.push(method.full_name().to_owned());
            }
        }
    }
    assert!(unknown.is_empty(), "decide who may call {unknown:?}");
    assert_eq!(count, NEEDED.len(), "a method that is no more");
}

#[test]
fn roles_hold_what_they_say() {
    use Role::{Admin, Operator, Sensor, Viewer};
    let all = [Sensor, Viewer, Operator, Admin];
    for (role, may) in [
        (Sensor, &[Sensor][..]),
        (Viewer, &[Viewer]),
        (Operator, &[Sensor, Viewer, Operator]),
        (Admin, &all),
    ] {
        for needed in all {
            assert_eq!(role.may(needed), may.contains(&needed), "{role:?} {needed:?}");
        }
    }
    assert_eq!(needed("/tidegate.v1.Control/Panic"), Some(Operator));
    assert_eq!(needed("/tidegate.v1.Reports/ReportAttack"), Some(Sensor));
    assert_eq!(needed("/tidegate.v1.Control/Reboot"), Some(Admin));
    assert_eq!(needed("/tidegate.v2.Control/GetStatus"), Some(Admin));
    assert_eq!(needed("/grpc.health.v1.Health/Check"), None);
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1001:2000::/:/bin/sh\n\
                      bob:x:1002:2001::/:/bin/sh\nbroken\n";
const GROUP: &str = "noc:x:2001:alice\nempty:x:2002:\nbroken:x\n";

#[test]
fn people_are_found_by_name_and_number() {
    let users = Users::parse(PASSWD, GROUP);
    let user = Subject::User;
    let group = Subject::Group;
    for (text, found) in [
        ("user:alice", vec![user(1001)]),
        ("user:1001", vec![user(1001)]),
        ("user:7", vec![user(7)]),
        ("group:noc", vec![user(1001), user(1002), group(2001)]),
        ("group:2001", vec![user(1001), user(1002), group(2001)]),
        ("group:empty", vec![group(2002)]),
        ("group:7", vec![group(7)]),
    ] {
        assert_eq!(users.find(text), Ok(found.into_iter().collect()), "{text}");
    }
    for text in ["alice", "user:carol", "group:alice", "", "user:", "host:x"] {
        assert!(users.find(text).is_err(), "{text}");
    }
    assert_eq!((users.name_of(1002), users.name_of(7)), ("bob".to_owned(), "uid 7".to_owned()));
}

#[test]
fn root_and_the_own_user_are_administrators() {
    let roles = [(Subject::User(1001), Role::Viewer), (Subject::Group(2001), Role::Operator)];
    let settings = ApiSettings { roles: roles.into(), ..Default::default() };
    let own = 990;
    assert_eq!(settings.role_of(0, 0, own), Some(Role::Admin));
    assert_eq!(settings.role_of(990, 5, own), Some(Role::Admin));
    assert_eq!(settings.role_of(1001, 5, own), Some(Role::Viewer));
    assert_eq!(settings.role_of(1001, 2001, own), Some(Role::Operator));
    assert_eq!(settings.role_of(1003, 5, own), None);
}

#[test]
fn fingerprints_are_read_as_openssl_prints_them() {
    let of = Fingerprint::of(b"abc");
    let text = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:\
                61:F2:00:15:AD";
    assert_eq!(text.parse(), Ok(of));
    assert_eq!(text.replace(':', "").to_lowercase().parse(), Ok(of));
    for text in ["", "BA", "zz", &"é".repeat(32), &"g".repeat(64)] {
        assert!(text.parse::<Fingerprint>().is_err(), "{text}");
    }
}
