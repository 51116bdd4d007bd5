//! The oracle: tikv's `raft`, driven tick by tick with its store in memory.
//!
//! Its random election timeouts are pinned beyond the end of every schedule, so that a member stands only when told.

use oracle::eraftpb::Snapshot;
use oracle::eraftpb::{ConfChangeSingle, ConfState, Message};
use oracle::eraftpb::{ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry, EntryType};
use oracle::storage::MemStorage;
use oracle::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};
use slog::{Discard, Logger, o};

use crate::member::{Change, Core, HEARTBEAT, PATIENCE, View, Word};

/// One member.
pub(crate) struct Theirs {
    id: u64,
    store: MemStorage,
    node: RawNode<MemStorage>,
    /// Where the state machine is, and what it saw; kept on its disk, since this core does not change the group anew
    /// when it starts again.
    at: u64,
    /// Each command with its index.
    applied: Vec<(u64, u64)>,
    group: ConfState,
    /// Reads that wait for the state machine, and those that were answered.
    waiting: Vec<(u64, u64)>,
    reads: Vec<(u64, u64)>,
}

impl Theirs {
    fn node(id: u64, applied: u64, store: &MemStorage) -> RawNode<MemStorage> {
        let config = Config {
            id,
            applied,
            election_tick: PATIENCE as usize,
            heartbeat_tick: HEARTBEAT as usize,
            min_election_tick: 1 << 30,
            max_election_tick: (1 << 30) + 1,
            max_size_per_msg: u64::MAX,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        RawNode::new(&config, store.clone(), &Logger::root(Discard, o!())).unwrap()
    }

    /// Goes on from a checkpoint that the leader sent.
    fn restore(&mut self, snapshot: Snapshot) {
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        let commands = snapshot.data.chunks(16).map(|c| (number(&c[..8]), number(&c[8..])));
        self.applied = commands.collect();
        self.at = snapshot.get_metadata().index;
        self.group = snapshot.get_metadata().get_conf_state().clone();
        self.store.wl().apply_snapshot(snapshot).unwrap();
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.at = entry.index;
            match word(&entry) {
                Word::Noop => {}
                Word::Command(command) => self.applied.push((entry.index, command)),
                Word::Change => {
                    // What was proposed travels in the context; without one, the group leaves the joint state.
                    let change = context(&entry.context).map_or_else(ConfChangeV2::default, joint);
                    self.group = self.node.apply_conf_change(&change).unwrap();
                    self.store.wl().set_conf_state(self.group.clone());
                }
            }
        }
    }
}

impl Core for Theirs {
    type Letter = Message;

    fn new(id: u64, voters: &[u64]) -> Self {
        let group = ConfState::from((voters.to_vec(), Vec::new()));
        let store = MemStorage::new_with_conf_state(group.clone());
        let node = Self::node(id, 0, &store);
        let (waiting, reads) = (Vec::new(), Vec::new());
        Self { id, store, node, at: 0, applied: Vec::new(), group, waiting, reads }
    }

    fn restart(&mut self) {
        self.node = Self::node(self.id, self.at, &self.store);
        self.waiting.clear();
    }

    fn tick(&mut self) {
        // Between two ticks everything is delivered: a checkpoint that did not arrive was lost, which its driver must say.
        let prs = self.node.raft.prs().iter();
        let lost = prs.filter(|(_, progress)| progress.state == ProgressState::Snapshot);
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.node.report_snapshot(id, SnapshotStatus::Failure);
        }
        self.node.tick();
    }

    fn stand(&mut self) {
        self.node.campaign().unwrap();
    }

    fn propose(&mut self, command: u64) {
        // Refused where no leader is known, or while leadership is handed on.
        let _ = self.node.propose(Vec::new(), command.to_be_bytes().to_vec());
    }

    fn checkpoint(&mut self) {
        // It keeps the entry at `at`, whose term it would not know else.
        self.store.wl().compact(self.at).unwrap();
    }

    fn read(&mut self, number: u64) {
        self.node.read_index(number.to_be_bytes().to_vec());
    }

    fn change(&mut self, change: Change) {
        let (kind, id) = match change {
            Change::Learner(id) => (b'l', id),
            Change::Promote(id) => (b'p', id),
            Change::Remove(id) => (b'r', id),
        };
        let named = [&[kind][..], &id.to_be_bytes()].concat();
        self.node.propose_conf_change(named, joint(change)).unwrap();
    }

    fn transfer(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    fn take(&mut self, letter: Message) {
        // From one that is not in the group any more; that is no harm.
        let _ = self.node.step(letter);
    }

    fn work(&mut self) -> Vec<(u64, Message)> {
        let mut out = Vec::new();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            if !ready.snapshot().is_empty() {
                self.restore(ready.snapshot().clone());
            }
            out.extend(ready.take_messages());
            self.waiting.extend(ready.take_read_states().iter().map(|state| {
                (u64::from_be_bytes(state.request_ctx[..].try_into().unwrap()), state.index)
            }));
            self.apply(ready.take_committed_entries());
            self.store.wl().append(ready.entries()).unwrap();
            if let Some(hard) = ready.hs() {
                self.store.wl().set_hardstate(hard.clone());
            }
            out.extend(ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.store.wl().mut_hard_state().set_commit(commit);
            }
            out.extend(light.take_messages());
            self.apply(light.take_committed_entries());
            self.node.advance_apply();
        }
        let at = self.at;
        self.reads.extend(self.waiting.extract_if(.., |(_, index)| *index <= at));
        // This store makes checkpoints without the state machine's bytes.
        for message in &mut out {
            let upto = message.get_snapshot().get_metadata().index;
            let covered = self.applied.iter().filter(|(index, _)| *index <= upto);
            let bytes: Vec<u8> = covered
                .flat_map(|(index, command)| [index.to_be_bytes(), command.to_be_bytes()])
                .flatten()
                .collect();
            if upto > 0 {
                assert!(upto <= self.at, "of what is not applied");
                message.mut_snapshot().data = bytes.into();
            }
        }
        out.into_iter().map(|message| (message.to, message)).collect()
    }

    fn view(&self) -> View {
        let raft = &self.node.raft;
        let sorted = |list: &[u64]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        View {
            leads: raft.state == StateRole::Leader,
            leader: (raft.leader_id != 0).then_some(raft.leader_id),
            term: raft.term,
            commit: raft.raft_log.committed,
            base: raft.raft_log.first_index() - 1,
            log: raft.raft_log.all_entries().iter().map(|e| (e.term, word(e))).collect(),
            applied: self.applied.iter().map(|(_, command)| *command).collect(),
            voters: sorted(self.group.get_voters()),
            learners: sorted(self.group.get_learners()),
            joint: !self.group.get_voters_outgoing().is_empty(),
            reads: self.reads.clone(),
        }
    }
}

fn joint(change: Change) -> ConfChangeV2 {
    let (kind, id) = match change {
        Change::Learner(id) => (ConfChangeType::AddLearnerNode, id),
        Change::Promote(id) => (ConfChangeType::AddNode, id),
        Change::Remove(id) => (ConfChangeType::RemoveNode, id),
    };
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = id;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change.set_transition(match kind {
        ConfChangeType::AddLearnerNode => ConfChangeTransition::Auto,
        _ => ConfChangeTransition::Implicit,
    });
    change
}

fn context(bytes: &[u8]) -> Option<Change> {
    let (kind, id) = bytes.split_first()?;
    let id = u64::from_be_bytes(id.try_into().unwrap());
    Some(match kind {
        b'l' => Change::Learner(id),
        b'p' => Change::Promote(id),
        _ => Change::Remove(id),
    })
}

fn word(entry: &Entry) -> Word {
    match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => Word::Noop,
        EntryType::EntryNormal => {
            Word::Command(u64::from_be_bytes(entry.data[..].try_into().unwrap()))
        }
        _ => Word::Change,
    }
}
