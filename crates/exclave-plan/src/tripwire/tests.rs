use super::*;

const MIB: u64 = 1 << 20;
const SOURCE: [u8; 32] = [7; 32];

/// A register of a thousand files and 100 MiB, of text, whose rewritten files keep nine tenths of their bytes.
fn register() -> Before {
    Before {
        extent: Extent {
            files: 1000,
            bytes: 100 * MIB,
        },
        habit: Habit {
            new: 100 * MIB,
            stored: 30 * MIB,
            again: 10 * MIB,
            again_known: 9 * MIB,
        },
        source_digest: SOURCE,
    }
}

/// A day like others: thirty files hold a tenth new bytes, five are gone, eight came.
fn usual_day() -> Activity {
    Activity {
        now: Extent {
            files: 1003,
            bytes: 101 * MIB,
        },
        gone_files: 5,
        changed_files: 30,
        moved_files: 2,
        again: Flow {
            known: 9 * MIB,
            new: MIB,
            stored: MIB / 3,
        },
        first: Flow {
            known: 0,
            new: 2 * MIB,
            stored: MIB,
        },
        anew: false,
    }
}

fn wires(before: &Before, activity: &Activity) -> Vec<Tripwire> {
    let trips = trips(before, &SOURCE, activity, &TripwireLimits::default());
    trips.into_iter().map(|trip| trip.wire).collect()
}

#[test]
fn a_usual_day_trips_nothing() {
    assert_eq!(wires(&register(), &usual_day()), []);
}

#[test]
fn four_fifths_turned_to_noise_trip_three_wires() {
    let noise = Activity {
        changed_files: 800,
        again: Flow {
            known: 0,
            new: 80 * MIB,
            stored: 80 * MIB,
        },
        ..usual_day()
    };
    let expected = [Tripwire::Changed, Tripwire::Noise, Tripwire::Collapsed];
    assert_eq!(wires(&register(), &noise), expected);
}

#[test]
fn noise_under_new_names_is_noise_too() {
    let noise = Activity {
        gone_files: 800,
        changed_files: 0,
        again: Flow::default(),
        first: Flow {
            known: 0,
            new: 80 * MIB,
            stored: 80 * MIB,
        },
        ..usual_day()
    };
    assert_eq!(wires(&register(), &noise), [Tripwire::Changed, Tripwire::Noise]);
}

#[test]
fn a_run_that_may_refer_to_nothing_rewrites_nothing() {
    let anew = Activity {
        changed_files: 1000,
        again: Flow {
            known: 0,
            new: 100 * MIB,
            stored: 30 * MIB,
        },
        anew: true,
        ..usual_day()
    };
    assert_eq!(wires(&register(), &anew), []);
    let habit = register().habit;
    assert_eq!(habit.after(&anew).again_known, habit.again_known);
    let noise = Activity {
        again: Flow {
            stored: 100 * MIB,
            ..anew.again
        },
        ..anew
    };
    assert_eq!(wires(&register(), &noise), [Tripwire::Noise]);
}

#[test]
fn renamed_files_are_told_from_changed_ones() {
    let renamed = Activity {
        gone_files: 300,
        changed_files: 0,
        moved_files: 300,
        ..usual_day()
    };
    assert_eq!(wires(&register(), &renamed), [Tripwire::Renamed]);
}

#[test]
fn an_emptied_mount_shrinks_and_changes() {
    let empty = Activity {
        now: Extent::default(),
        gone_files: 1000,
        ..Activity::default()
    };
    assert_eq!(wires(&register(), &empty), [Tripwire::Changed, Tripwire::Shrunk]);
}

#[test]
fn a_stream_is_judged_by_its_bytes() {
    let dump = Before {
        extent: Extent {
            files: 1,
            bytes: 50 * MIB,
        },
        ..register()
    };
    let same = Activity {
        now: dump.extent,
        again: Flow {
            known: 45 * MIB,
            new: 5 * MIB,
            stored: 2 * MIB,
        },
        ..Activity::default()
    };
    assert_eq!(wires(&dump, &same), []);
    let half = Activity {
        now: Extent {
            files: 1,
            bytes: 25 * MIB,
        },
        ..same
    };
    assert_eq!(wires(&dump, &half), [Tripwire::Shrunk]);
    let other = Activity {
        again: Flow {
            known: 0,
            new: 50 * MIB,
            stored: 20 * MIB,
        },
        ..same
    };
    assert_eq!(wires(&dump, &other), [Tripwire::Collapsed]);
}

#[test]
fn pictures_that_join_text_are_no_noise_when_they_are_few() {
    let few = Activity {
        first: Flow {
            known: 0,
            new: 9 * MIB,
            stored: 9 * MIB,
        },
        again: Flow::default(),
        ..usual_day()
    };
    assert_eq!(wires(&register(), &few), []);
}

#[test]
fn who_always_stored_noise_or_never_kept_chunks_is_not_told_so() {
    let mut before = register();
    before.habit.stored = 91 * MIB;
    before.habit.again_known = 4 * MIB;
    let rewritten = Activity {
        again: Flow {
            known: 0,
            new: 40 * MIB,
            stored: 40 * MIB,
        },
        ..usual_day()
    };
    assert_eq!(wires(&before, &rewritten), []);
}

#[test]
fn small_sources_trip_nothing_but_another_definition() {
    let small = Before {
        extent: Extent {
            files: FILES_MIN - 1,
            bytes: BYTES_MIN - 1,
        },
        ..register()
    };
    let all = Activity {
        gone_files: FILES_MIN - 1,
        ..Activity::default()
    };
    assert_eq!(wires(&small, &all), []);
    let limits = TripwireLimits::default();
    let told = trips(&small, &[8; 32], &all, &limits);
    let told: Vec<Tripwire> = told.into_iter().map(|trip| trip.wire).collect();
    assert_eq!(told, [Tripwire::Redefined]);
}

#[test]
fn a_share_trips_from_its_limit_on() {
    let at = |gone_files| {
        wires(
            &register(),
            &Activity {
                gone_files,
                changed_files: 0,
                ..usual_day()
            },
        )
    };
    assert_eq!((at(499), at(500)), (vec![], vec![Tripwire::Changed]));
}

#[test]
fn a_habit_forgets_by_halves() {
    let habit = Habit::default().after(&usual_day()).after(&Activity::default());
    let first = Habit::default().after(&usual_day());
    assert_eq!(first.again_known, 9 * MIB);
    assert_eq!((habit.again_known, habit.new), (9 * MIB / 2, 3 * MIB / 2));
}

#[test]
fn sums_at_their_limit_do_not_wrap() {
    let full = Flow {
        known: u64::MAX,
        new: u64::MAX,
        stored: u64::MAX,
    };
    let activity = Activity {
        again: full,
        first: full,
        ..usual_day()
    };
    assert_eq!(Habit::default().after(&activity).new, u64::MAX);
    let before = Before {
        extent: Extent {
            files: u64::MAX,
            bytes: u64::MAX,
        },
        ..register()
    };
    assert_eq!(wires(&before, &activity), [Tripwire::Shrunk, Tripwire::Noise]);
}
