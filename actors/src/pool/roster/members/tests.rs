#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::{collection::vec, prelude::*};

use super::{Member, Members};
use crate::{
    name::{RegistrationId, RunnerName, VmId},
    port::{Registration, Time, Vm, VmStatus},
    runner::{State, adopt},
};

fn at(second: u8) -> Time {
    Time::UNIX_EPOCH + std::time::Duration::from_secs(second.into())
}

fn name(number: u8) -> RunnerName {
    format!("ci--small--{number:012x}").parse().unwrap()
}

fn state(kind: u8, second: u8) -> State {
    let status = match kind % 5 {
        0 => None,
        1 => Some(VmStatus::Building),
        2 => Some(VmStatus::Stopped),
        3 => Some(VmStatus::Deleting),
        _ => Some(VmStatus::Active),
    };
    let vm = status.map(|status| Vm {
        name: name(0),
        id: VmId("vm".into()),
        status,
        created_at: Some(at(second)),
        shape: kind.is_multiple_of(2).then(|| format!("shape {}", kind % 3)),
        scope: None,
        address: None,
        task: None,
    });
    let registration = (kind % 7 > 2).then(|| Registration {
        name: name(0),
        id: RegistrationId(1),
        online: kind % 7 > 3,
        busy: Some(kind % 7 > 5),
        cordoned: None,
    });
    adopt(vm, registration, at(second))
}

proptest! {
    #[test]
    fn what_is_kept_is_what_a_new_count_finds(
        steps in vec((0_u8..8, any::<u8>(), any::<u8>(), any::<bool>(), 0_u8..4), 1..60),
    ) {
        let mut kept = Members::default();
        for (who, kind, second, late, step) in steps {
            let name = name(who);
            match step {
                0 => drop(kept.remove(&name)),
                1 => kept.change(&name, |member| member.late = late),
                2 => kept.change(&name, |member| member.state = state(kind, second)),
                _ => {
                    let state = state(kind, second);
                    let created_at = at(second);
                    kept.insert(name, Member { state, created_at, asked_at: None, late });
                }
            }
        }
        let mut counted = Members::default();
        for (name, member) in kept.iter() {
            counted.insert(name.clone(), member.clone());
        }
        prop_assert_eq!(kept.sums(), counted.sums());
        prop_assert_eq!(kept.coming().collect::<Vec<_>>(), counted.coming().collect::<Vec<_>>());
        prop_assert_eq!(kept.shown().collect::<Vec<_>>(), counted.shown().collect::<Vec<_>>());
        let shapes = |members: &Members| members.idle_shapes().map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(shapes(&kept), shapes(&counted));
    }
}
