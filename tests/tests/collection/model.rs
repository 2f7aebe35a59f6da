//! The protocol as a machine of single operations.
//!
//! Stripe 0 is old: its run is closed and no retained head needs it. Each run `r` writes a stripe of its own, `r + 1`, and
//! reuses what there is: the old stripe, and, when it succeeds a run that died, the stripe of that one. A reaper may want
//! any stripe at any moment: which ones it *should* want is retention's affair and must not matter to safety. Sites are bits.
//!
//! A step is one operation at one site, so an operation "at a quorum" can be interrupted, overtaken and never finished. A
//! process that dies is one that takes no further step; only a run that is succeeded has to die explicitly, since its journal
//! has one owner. Time isn't there: whoever waits may wait for ever, so nothing here rests on a delay.

use stateright::{Model, Property};

/// The one promise.
pub const WHOLE: &str = "a visible snapshot has all its stripes";

/// Runs of writers, at most.
const RUNS: usize = 3;
/// Reapers.
const REAPERS: usize = 2;
/// The old stripe and one of each run.
const STRIPES: usize = RUNS + 1;

/// What is there.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    sites: u8,
    quorum: u8,
    /// Runs that begin by themselves.
    runs: u8,
    /// Run that run `runs` succeeds when it dies, if any does.
    succession: bool,
    reapers: u8,
    /// Collections that each reaper may begin.
    cycles: u8,
    /// Sites that may be lost for ever.
    losses: u8,
    /// Whether any one site may be away at any time.
    intermittent: bool,
    /// A site that confirms every put and shows nothing.
    liar: Option<u8>,
    /// A dead run is closed after the claim on it, not after the head (DESIGN section 6 allows both).
    closed_at_claim: bool,
}

impl Plan {
    /// 2+1, where every quorum is as small as can be; one run, one reaper.
    pub const THREE: Self = Self {
        sites: 3,
        quorum: 2,
        runs: 1,
        succession: false,
        reapers: 1,
        cycles: 1,
        losses: 0,
        intermittent: false,
        liar: None,
        closed_at_claim: false,
    };
    /// Two runs at once.
    const TWO_RUNS: Self = Self { runs: 2, ..Self::THREE };
    /// Two reapers at once.
    pub const TWO_REAPERS: Self = Self {
        reapers: 2,
        ..Self::THREE
    };
    /// Any one site is away at any time.
    const INTERMITTENT: Self = Self {
        intermittent: true,
        cycles: 2,
        ..Self::THREE
    };
    /// A run that dies, and one that takes over; a reaper that looks twice.
    pub const ADOPTION: Self = Self {
        succession: true,
        closed_at_claim: true,
        ..Self::THREE
    };
    /// 2+2, one of the sites lost for ever.
    pub const LOST: Self = Self {
        sites: 4,
        quorum: 3,
        losses: 1,
        ..Self::THREE
    };
    /// 2+1, b = 1: one of the three lies.
    const LIAR: Self = Self {
        quorum: 3,
        liar: Some(0),
        runs: 2,
        ..Self::THREE
    };
    /// What every run of CI checks.
    pub const HONEST: [Self; 6] = [
        Self::TWO_REAPERS,
        Self::INTERMITTENT,
        Self::ADOPTION,
        Self {
            closed_at_claim: false,
            ..Self::ADOPTION
        },
        Self::LOST,
        Self::LIAR,
    ];
    /// What a night checks.
    pub const NIGHT: [Self; 4] = [
        Self::TWO_RUNS,
        Self {
            intermittent: true,
            ..Self::TWO_REAPERS
        },
        Self {
            intermittent: true,
            ..Self::ADOPTION
        },
        Self {
            intermittent: true,
            ..Self::LOST
        },
    ];
}

/// A safeguard that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    NoClaim,
    MarksNotRead,
    MarksReadFirst,
    NotReadAgain,
    MarkWithdrawn,
    SameName,
    SitesPassedOver,
    ClaimAtOneSite,
    MarkBelowQuorum,
    MarksReadBelowQuorum,
    OpenRunCollected,
    AdoptionWithoutClaim,
    ClosedBeforeHead,
    ClosesReadLast,
}

/// The protocol, whole or with a safeguard less.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    plan: Plan,
    mutant: Option<Mutant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stage {
    Idle,
    Claiming,
    ReadingMarks,
    Committing,
    Closing,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Run {
    stage: Stage,
    /// Stripes that its head names, as bits.
    uses: u8,
    /// Marked ones of them, as far as it has read.
    marked: u8,
    /// Sites whose marks it has read.
    read: u8,
    claim: u8,
    /// What the claim names: a stripe that is written anew stays claimed.
    claimed: u8,
    head: u8,
    close: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Look {
    Idle,
    Marking,
    Closes,
    References,
    Sweeping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Reaper {
    look: Look,
    stripe: u8,
    /// Sites that it has read in this pass.
    read: u8,
    /// Runs that it saw closed.
    closed: u8,
    /// Runs whose claim or head it saw on the stripe.
    claims: u8,
    headed: bool,
    left: u8,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    away: u8,
    lost: u8,
    /// For each stripe the sites that deleted it.
    deleted: [u8; STRIPES],
    marks: [u8; STRIPES],
    runs: [Run; RUNS],
    reapers: [Reaper; REAPERS],
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Goes(u8),
    Returns(u8),
    Lost(u8),
    Begins(u8),
    PutsClaim(u8, u8),
    ReadsMarks(u8, u8),
    PutsHead(u8, u8),
    PutsClose(u8, u8),
    Dies(u8),
    Wants(u8, u8),
    PutsMark(u8, u8),
    ReadsCloses(u8, u8),
    ReadsReferences(u8, u8),
    Deletes(u8, u8),
}

const fn bit(at: u8) -> u8 {
    1 << at
}

const fn own(run: u8) -> u8 {
    bit(run + 1)
}

impl Protocol {
    pub const fn new(plan: Plan, mutant: Option<Mutant>) -> Self {
        Self { plan, mutant }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn quorum(&self, weakened: Mutant) -> u32 {
        u32::from(self.plan.quorum) - u32::from(self.is(weakened))
    }

    fn everywhere(&self) -> u8 {
        bit(self.plan.sites) - 1
    }

    fn runs(&self) -> u8 {
        self.plan.runs + u8::from(self.plan.succession)
    }

    /// The run that dies and is succeeded, and its successor.
    fn succession(&self) -> Option<(u8, u8)> {
        self.plan.succession.then_some((0, self.plan.runs))
    }

    fn honest(&self, site: u8) -> bool {
        self.plan.liar != Some(site)
    }

    /// What a reader sees of a record at a site.
    fn shows(&self, record: u8, site: u8) -> bool {
        self.honest(site) && record & bit(site) != 0
    }

    fn answering(&self, state: &State) -> u8 {
        self.everywhere() & !state.lost & !state.away
    }

    /// Sites that a reaper must have read: all that the charter still names.
    fn all_read(&self, state: &State, read: u8) -> bool {
        match self.is(Mutant::SitesPassedOver) {
            // One site too few to meet every claim that lies at a quorum.
            true => read.count_ones() >= u32::from(self.plan.sites - self.plan.quorum),
            false => (read | state.lost) == self.everywhere(),
        }
    }

    fn begins(&self, state: &State, run: u8) -> bool {
        let succeeds = self.succession().filter(|(_, successor)| *successor == run);
        state.runs[usize::from(run)].stage == Stage::Idle
            && succeeds.is_none_or(|(dead, _)| state.runs[usize::from(dead)].stage == Stage::Dead)
    }

    /// What a run wants to reuse.
    fn wanted(&self, run: u8) -> u8 {
        match self.succession() {
            Some((dead, successor)) if successor == run => bit(0) | own(dead),
            _ => bit(0),
        }
    }

    fn claims(&self, run: u8) -> u8 {
        let wanted = self.wanted(run);
        match self.succession() {
            Some((dead, successor)) if successor == run && self.is(Mutant::AdoptionWithoutClaim) => wanted & !own(dead),
            _ => wanted,
        }
    }

    /// After the marks were read: what is marked is written anew under a fresh name, here in the run's own stripe.
    fn decide(&self, run: u8, record: &mut Run, deleted: &mut [u8; STRIPES]) {
        let marked = record.marked & record.uses;
        if self.is(Mutant::SameName) {
            for (stripe, at) in deleted.iter_mut().enumerate() {
                if marked & bit(stripe as u8) != 0 {
                    *at = 0;
                }
            }
        } else {
            record.uses &= !marked;
        }
        record.uses |= own(run);
        record.stage = match self.is(Mutant::ClosedBeforeHead) {
            true => Stage::Closing,
            false => Stage::Committing,
        };
    }

    fn write(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Begins(run) => {
                let record = &mut next.runs[usize::from(run)];
                record.uses = self.wanted(run) | own(run);
                record.claimed = self.claims(run);
                record.stage = match (self.is(Mutant::NoClaim), self.is(Mutant::MarksReadFirst)) {
                    (true, _) | (_, true) => Stage::ReadingMarks,
                    (false, false) => Stage::Claiming,
                };
            }
            Step::PutsClaim(run, site) => {
                let alone = self.is(Mutant::ClaimAtOneSite);
                let quorum = if alone { 1 } else { u32::from(self.plan.quorum) };
                let record = &mut next.runs[usize::from(run)];
                record.claim |= bit(site);
                if record.claim.count_ones() >= quorum {
                    record.stage = Stage::ReadingMarks;
                    if self.is(Mutant::MarksReadFirst) {
                        self.decide(run, record, &mut next.deleted);
                    } else if self.is(Mutant::MarksNotRead) {
                        record.stage = Stage::Committing;
                    }
                    if self.plan.closed_at_claim {
                        self.close_dead(&mut next, run, site);
                    }
                }
            }
            Step::ReadsMarks(run, site) => {
                let quorum = self.quorum(Mutant::MarksReadBelowQuorum);
                let seen = (0..STRIPES as u8).filter(|stripe| self.shows(state.marks[usize::from(*stripe)], site));
                let seen = seen.fold(0, |seen, stripe| seen | bit(stripe));
                let record = &mut next.runs[usize::from(run)];
                let looked_for = if self.is(Mutant::AdoptionWithoutClaim) {
                    record.claimed
                } else {
                    record.uses
                };
                record.marked |= seen & looked_for & !own(run);
                record.read |= bit(site);
                if record.read.count_ones() >= quorum {
                    match self.is(Mutant::MarksReadFirst) {
                        true => record.stage = Stage::Claiming,
                        false => self.decide(run, record, &mut next.deleted),
                    }
                }
            }
            Step::PutsHead(run, site) => {
                let record = &mut next.runs[usize::from(run)];
                record.head |= bit(site);
                if record.head.count_ones() >= u32::from(self.plan.quorum) {
                    record.stage = match self.is(Mutant::ClosedBeforeHead) {
                        true => Stage::Done,
                        false => Stage::Closing,
                    };
                }
            }
            Step::PutsClose(run, site) => {
                let record = &mut next.runs[usize::from(run)];
                record.close |= bit(site);
                record.stage = match self.is(Mutant::ClosedBeforeHead) {
                    true => Stage::Committing,
                    false => Stage::Done,
                };
                self.close_dead(&mut next, run, site);
            }
            Step::Dies(run) => next.runs[usize::from(run)].stage = Stage::Dead,
            _ => return None,
        }
        Some(next)
    }

    fn close_dead(&self, next: &mut State, run: u8, site: u8) {
        if let Some((dead, successor)) = self.succession()
            && successor == run
        {
            next.runs[usize::from(dead)].close |= bit(site);
        }
    }

    fn reap(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Wants(reaper, stripe) => {
                let record = &mut next.reapers[usize::from(reaper)];
                *record = Reaper {
                    look: Look::Marking,
                    stripe,
                    left: record.left - 1,
                    ..IDLE
                };
                self.marked(&mut next, reaper);
            }
            Step::PutsMark(reaper, site) => {
                let stripe = next.reapers[usize::from(reaper)].stripe;
                next.marks[usize::from(stripe)] |= bit(site);
                self.marked(&mut next, reaper);
            }
            Step::ReadsCloses(reaper, site) => {
                let mut record = next.reapers[usize::from(reaper)];
                record.read |= bit(site);
                record.closed |= self.closed(state, site);
                if self.all_read(state, record.read) {
                    record.read = 0;
                    record.look = Look::References;
                    if self.is(Mutant::ClosesReadLast) {
                        record = self.judged(&mut next, record);
                    }
                }
                next.reapers[usize::from(reaper)] = record;
            }
            Step::ReadsReferences(reaper, site) => {
                let mut record = next.reapers[usize::from(reaper)];
                record.read |= bit(site);
                for run in 0..self.runs() {
                    let seen = &state.runs[usize::from(run)];
                    record.headed |= self.shows(seen.head, site) && seen.uses & bit(record.stripe) != 0;
                    if self.shows(seen.claim, site) && seen.claimed & bit(record.stripe) != 0 {
                        record.claims |= bit(run);
                    }
                }
                if self.all_read(state, record.read) {
                    record.read = 0;
                    record = match self.is(Mutant::ClosesReadLast) {
                        true => Reaper {
                            look: Look::Closes,
                            ..record
                        },
                        false => self.judged(&mut next, record),
                    };
                }
                next.reapers[usize::from(reaper)] = record;
            }
            Step::Deletes(reaper, site) => {
                let record = next.reapers[usize::from(reaper)];
                let deleted = &mut next.deleted[usize::from(record.stripe)];
                *deleted |= bit(site);
                if *deleted | state.lost == self.everywhere() {
                    next.reapers[usize::from(reaper)] = Reaper {
                        left: record.left,
                        ..IDLE
                    };
                }
            }
            _ => return None,
        }
        Some(next)
    }

    /// Runs that a site shows as closed. The old stripe's run was closed long ago.
    fn closed(&self, state: &State, site: u8) -> u8 {
        let shown = (0..self.runs()).filter(|run| self.shows(state.runs[usize::from(*run)].close, site));
        shown.fold(0, |closed, run| closed | bit(run))
    }

    /// Goes on to read once the mark lies at its quorum.
    fn marked(&self, next: &mut State, reaper: u8) {
        let quorum = self.quorum(Mutant::MarkBelowQuorum);
        let record = &mut next.reapers[usize::from(reaper)];
        if next.marks[usize::from(record.stripe)].count_ones() >= quorum {
            record.look = match (self.is(Mutant::NotReadAgain), self.is(Mutant::ClosesReadLast)) {
                (true, _) => Look::Sweeping,
                (false, true) => Look::References,
                (false, false) => Look::Closes,
            };
        }
    }

    /// What follows from what was read: the sweep, or nothing at all.
    fn judged(&self, next: &mut State, record: Reaper) -> Reaper {
        let run_is_open = record.stripe > 0 && record.closed & bit(record.stripe - 1) == 0;
        let open = run_is_open && !self.is(Mutant::OpenRunCollected);
        let claimed = record.claims & !record.closed != 0;
        if open || claimed || record.headed {
            if self.is(Mutant::MarkWithdrawn) {
                next.marks[usize::from(record.stripe)] = 0;
            }
            return Reaper {
                left: record.left,
                ..IDLE
            };
        }
        Reaper {
            look: Look::Sweeping,
            stripe: record.stripe,
            left: record.left,
            ..IDLE
        }
    }
}

const IDLE: Reaper = Reaper {
    look: Look::Idle,
    stripe: 0,
    read: 0,
    closed: 0,
    claims: 0,
    headed: false,
    left: 0,
};

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let idle = Run {
            stage: Stage::Idle,
            uses: 0,
            marked: 0,
            read: 0,
            claim: 0,
            claimed: 0,
            head: 0,
            close: 0,
        };
        vec![State {
            away: 0,
            lost: 0,
            deleted: [0; STRIPES],
            marks: [0; STRIPES],
            runs: [idle; RUNS],
            reapers: [Reaper {
                left: self.plan.cycles,
                ..IDLE
            }; REAPERS],
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let sites = || (0..self.plan.sites).filter(|site| self.answering(state) & bit(*site) != 0);
        let lacking = |held: u8| sites().filter(move |site| held & bit(*site) == 0);
        for site in 0..self.plan.sites {
            if state.away & bit(site) != 0 {
                steps.push(Step::Returns(site));
            } else if state.lost & bit(site) == 0 {
                if self.plan.intermittent && state.away == 0 {
                    steps.push(Step::Goes(site));
                }
                if state.lost.count_ones() < u32::from(self.plan.losses) {
                    steps.push(Step::Lost(site));
                }
            }
        }
        for run in 0..self.runs() {
            let record = &state.runs[usize::from(run)];
            match record.stage {
                Stage::Idle if self.begins(state, run) => steps.push(Step::Begins(run)),
                Stage::Claiming => steps.extend(lacking(record.claim).map(|site| Step::PutsClaim(run, site))),
                Stage::ReadingMarks => steps.extend(lacking(record.read).map(|site| Step::ReadsMarks(run, site))),
                Stage::Committing => steps.extend(lacking(record.head).map(|site| Step::PutsHead(run, site))),
                Stage::Closing => steps.extend(sites().map(|site| Step::PutsClose(run, site))),
                Stage::Idle | Stage::Done | Stage::Dead => {}
            }
            let succeeded = self.succession().is_some_and(|(dead, _)| dead == run);
            if succeeded && matches!(record.stage, Stage::Claiming | Stage::ReadingMarks) {
                steps.push(Step::Dies(run));
            }
        }
        for reaper in 0..self.plan.reapers {
            let record = &state.reapers[usize::from(reaper)];
            match record.look {
                Look::Idle if record.left > 0 => {
                    let there = |stripe: &u8| state.deleted[usize::from(*stripe)] == 0;
                    let written =
                        |stripe: &u8| *stripe == 0 || state.runs[usize::from(*stripe - 1)].stage != Stage::Idle;
                    let stripes = (0..=self.runs()).filter(there).filter(written);
                    steps.extend(stripes.map(|stripe| Step::Wants(reaper, stripe)));
                }
                Look::Marking => {
                    let held = state.marks[usize::from(record.stripe)];
                    steps.extend(lacking(held).map(|site| Step::PutsMark(reaper, site)));
                }
                Look::Closes => steps.extend(lacking(record.read).map(|site| Step::ReadsCloses(reaper, site))),
                Look::References => {
                    steps.extend(lacking(record.read).map(|site| Step::ReadsReferences(reaper, site)));
                }
                Look::Sweeping => {
                    let gone = state.deleted[usize::from(record.stripe)];
                    steps.extend(lacking(gone).map(|site| Step::Deletes(reaper, site)));
                }
                Look::Idle => {}
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Goes(site) => next.away |= bit(site),
            Step::Returns(site) => next.away &= !bit(site),
            Step::Lost(site) => next.lost |= bit(site),
            Step::Begins(_)
            | Step::PutsClaim(..)
            | Step::ReadsMarks(..)
            | Step::PutsHead(..)
            | Step::PutsClose(..)
            | Step::Dies(_) => return self.write(state, step),
            Step::Wants(..)
            | Step::PutsMark(..)
            | Step::ReadsCloses(..)
            | Step::ReadsReferences(..)
            | Step::Deletes(..) => return self.reap(state, step),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(WHOLE, |_, state: &State| {
                let visible = state.runs.iter().filter(|run| run.head != 0);
                let gone = (0..STRIPES).filter(|stripe| state.deleted[*stripe] != 0);
                let gone = gone.fold(0, |gone, stripe| gone | bit(stripe as u8));
                visible.fold(0, |needed, run| needed | run.uses) & gone == 0
            }),
            Property::sometimes("the old stripe is collected", |protocol: &Self, state: &State| {
                state.deleted[0] | state.lost == protocol.everywhere()
            }),
            Property::sometimes("the old stripe is reused", |_, state: &State| {
                state
                    .runs
                    .iter()
                    .any(|run| run.stage == Stage::Done && run.uses & bit(0) != 0)
            }),
            Property::sometimes("a marked stripe is written anew", |_, state: &State| {
                state
                    .runs
                    .iter()
                    .any(|run| run.stage == Stage::Done && run.uses & bit(0) == 0)
            }),
        ];
        if self.plan.succession {
            properties.push(Property::sometimes(
                "a dead run's stripe is adopted",
                |protocol: &Self, state: &State| {
                    protocol.succession().is_some_and(|(dead, successor)| {
                        let run = &state.runs[usize::from(successor)];
                        run.stage == Stage::Done && run.uses & own(dead) != 0
                    })
                },
            ));
        }
        properties
    }
}
