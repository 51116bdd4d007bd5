//! The stage of the transcripts: a map, servers with their machines, and what they hold. One group.

use std::collections::BTreeMap;

use world::Address;

use crate::{
    chain::{
        Admission, Machine, Phase, Receipt,
        reconcile::{Bring, Holding, judges, plan},
    },
    disk::{BLOCK, Fence, PAGE, Space},
    link::{Known, Member, Past, Registration, Standing},
    map::{
        Change as MapChange,
        machine::{Command, MAIN, Map},
    },
    message::{BlockContent, Change, Discard, Ticket, Write, Writer},
    place::{
        BlockId, BlockVersion, ChainVersion, Group, GroupBits, Incarnation, Order, Sequence,
        ServerId,
    },
};

const GROUP: Group = Group(0);

/// A server: its machine, what it holds, what of that is on its disk, and what it was forwarded.
struct Server {
    incarnation: u64,
    machine: Machine,
    known: Known,
    holds: Blocks,
    disk: Blocks,
    /// Mutations that it applied and may still have to pass on.
    log: BTreeMap<Order, (Ticket, Change)>,
}

type Blocks = BTreeMap<BlockId, BlockVersion>;

impl Server {
    fn holding(&self) -> Holding {
        Holding { blocks: self.holds.clone(), swept: self.machine.swept() }
    }

    fn install(&mut self, block: BlockId, content: &BlockContent) {
        if content.pages == 0 {
            self.holds.remove(&block);
        } else {
            self.holds.insert(block, content.version);
        }
    }
}

#[derive(Default)]
pub(super) struct Stage {
    map: Map,
    servers: BTreeMap<u64, Server>,
    starts: u128,
}

fn number(word: Option<&&str>) -> u64 {
    word.unwrap().parse().unwrap()
}

fn block(number: u64) -> BlockId {
    BlockId { volume: MAIN, block: number }
}

fn at(version: BlockVersion) -> String {
    if version == BlockVersion::default() {
        return "nothing".to_owned();
    }
    format!("{}.{}", version.chain.0, version.order.0)
}

impl Stage {
    /// Does what a line says; returns what there is to see.
    pub(super) fn step(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id = || number(words.get(1));
        match words[0] {
            "format" => self.format(id(), number(words.get(3)) as u8),
            "start" => self.start(id(), words[2]),
            "expire" | "forsake" | "replace" => self.fate(words[0], id()),
            "add" => self.change(MapChange::Add {
                server: ServerId(id()),
                weight: 100,
                domain: String::new(),
            }),
            "drain" => self.change(MapChange::Drain(ServerId(id()))),
            "remove" => self.change(MapChange::Remove(ServerId(id()))),
            "hear" => words[1..].iter().flat_map(|id| self.hear(id.parse().unwrap())).collect(),
            "equalize" => self.equalize(id(), words.get(2) == Some(&"halfway")),
            "sync" => self.sync(id()),
            "write" | "discard" => self.mutate(words[0], id(), &words[2..]),
            "forward" => self.forward(id(), number(words.get(2)), number(words.get(3))),
            "settle" => self.settle(id(), number(words.get(2))),
            "commit" => self.commit(id()),
            "read" => vec![self.read(id(), number(words.get(2)), number(words.get(3)))],
            "quiet" => vec![self.quiet(id(), number(words.get(2)))],
            "show" => vec![self.show()],
            other => panic!("no such step: {other}"),
        }
    }

    fn handle(&mut self, command: Command) -> Vec<String> {
        match self.map.handle(command) {
            Ok(_) => vec![self.show()],
            Err(error) => vec![format!("refused: {error}")],
        }
    }

    fn show(&self) -> String {
        let row = &self.map.rows[0];
        let seat = |seat: &crate::map::machine::Seat| {
            let mark = match (seat.standing, seat.leaving) {
                (Standing::Serving, false) => "",
                (Standing::Serving, true) => " (to leave)",
                (Standing::Stale, _) => " stale",
                (Standing::Syncing, _) => " syncing",
                (Standing::Leaving, _) => " leaving",
            };
            format!("{}{mark}", seat.server)
        };
        let chain: Vec<String> = row.chain.iter().map(seat).collect();
        let spare: Vec<String> = row
            .spare
            .iter()
            .map(|id| {
                let up = self.map.servers.get(id).is_some_and(|server| server.up);
                format!("{id} {}", if up { "waiting" } else { "offline" })
            })
            .collect();
        let equal = if row.equal { "equal" } else { "not equal" };
        let outside =
            if spare.is_empty() { String::new() } else { format!("; {}", spare.join(", ")) };
        format!(
            "chain {} [{}] {equal}, intact since {}{outside}",
            row.version.0,
            chain.join(", "),
            row.intact.0
        )
    }

    fn format(&mut self, servers: u64, copies: u8) -> Vec<String> {
        let ids = (1..=servers).map(ServerId).collect();
        let (replication, bits) = (copies, GroupBits(0));
        self.map.handle(Command::Format { cluster: 7, servers: ids, replication, bits }).unwrap();
        for id in 1..=servers {
            self.start(id, "clean");
        }
        for id in 1..=servers {
            self.hear(id);
        }
        vec![self.show()]
    }

    fn start(&mut self, id: u64, past: &str) -> Vec<String> {
        let past = match past {
            "clean" => Past::Clean,
            "unbroken" => Past::Unbroken,
            "lost" => Past::Lost,
            "empty" => Past::Nothing,
            other => panic!("no such past: {other}"),
        };
        self.starts += 1;
        let registration = Registration {
            server: ServerId(id),
            directory: u128::from(id),
            start: self.starts,
            address: Address::Unix(format!("/{id}").into()),
            past,
            space: Space::default(),
        };
        let incarnation = match self.map.handle(Command::Register(registration)) {
            Ok(incarnation) => incarnation,
            Err(error) => return vec![format!("refused: {error}")],
        };
        let old = self.servers.remove(&id);
        let server = match (old, past) {
            (Some(mut old), Past::Unbroken) => {
                old.machine.reborn(Incarnation(incarnation));
                Server { incarnation, known: Known::default(), ..old }
            }
            (old, _) => {
                let disk = old.map_or_else(Blocks::new, |old| old.disk);
                let machine = Machine::new(ServerId(id), Incarnation(incarnation));
                let (known, log) = (Known::default(), BTreeMap::new());
                Server { incarnation, machine, known, holds: disk.clone(), disk, log }
            }
        };
        self.servers.insert(id, server);
        vec![self.show()]
    }

    fn fate(&mut self, what: &str, id: u64) -> Vec<String> {
        let server = ServerId(id);
        let incarnation = self.map.servers[&server].incarnation;
        self.handle(match what {
            "expire" => Command::Expire { server, incarnation },
            "forsake" => Command::Forsake { server, incarnation },
            _ => Command::Replace { server, incarnation },
        })
    }

    fn change(&mut self, change: MapChange) -> Vec<String> {
        self.handle(Command::Change(change))
    }

    fn hear(&mut self, id: u64) -> Vec<String> {
        let server = self.servers.get_mut(&id).unwrap();
        let news = self.map.news(ServerId(id), server.known);
        server.known = news.known;
        for chain in news.chains {
            if server.machine.install(chain) {
                server.log.clear();
            }
        }
        let phase = match server.machine.phase() {
            Phase::Out => "is out",
            Phase::Joining => "is to be brought what it lacks",
            Phase::Leaving => "leaves",
            Phase::Equalizing => "waits until the members are equal",
            Phase::Serving if server.machine.is_head() => "serves as the head",
            Phase::Serving => "serves",
        };
        vec![format!("{id} at {} {phase}", server.machine.version().0)]
    }

    /// The head makes the members equal, as `server::equalize` does, and reports it; or it only brings
    /// what is missing.
    fn equalize(&mut self, id: u64, halfway: bool) -> Vec<String> {
        let head = &self.servers[&id].machine;
        if !head.is_head() || head.phase() != Phase::Equalizing {
            return vec![format!("{id} has nothing to make equal")];
        }
        let row = head.chain().unwrap().clone();
        let version = row.version;
        for member in &row.members {
            let there = self.servers.get(&member.server.0);
            let heard = there.is_some_and(|server| {
                server.incarnation == member.incarnation.0 && server.machine.at(version).is_ok()
            });
            let up = self.map.is_current(member.server, member.incarnation);
            if !heard || !up {
                return vec![format!("{} has not heard of version {}", member.server, version.0)];
            }
        }
        let standings: Vec<Standing> = row.members.iter().map(|member| member.standing).collect();
        let holdings: Vec<Holding> =
            row.members.iter().map(|member| self.servers[&member.server.0].holding()).collect();
        let judges = judges(&standings);
        if judges.is_empty() {
            return vec!["nobody has the data".to_owned()];
        }
        let mut said = Vec::new();
        for bring in plan(&standings, &holdings) {
            let name = |place: &usize| row.members[*place].server.to_string();
            let to: Vec<String> = bring.to.iter().map(name).collect();
            let content = self.content(row.members[bring.from[0]].server, &bring);
            let gone = if content.pages == 0 { "nothing since " } else { "" };
            let gone = if bring.version == BlockVersion::default() { "" } else { gone };
            said.push(format!(
                "block {} becomes {gone}{} on {}",
                bring.block.block,
                at(bring.version),
                to.join(", ")
            ));
            for place in &bring.to {
                self.bring(&row.members[*place], bring.block, content.clone());
            }
        }
        if halfway {
            return said;
        }
        let seen: Vec<_> = judges
            .iter()
            .flat_map(|place| self.servers[&row.members[*place].server.0].machine.seen())
            .collect();
        for member in row.serving() {
            let server = self.servers.get_mut(&member.server.0).unwrap();
            for (block, content) in server.machine.settle(version, &seen).unwrap() {
                server.install(block, &content);
            }
            server.disk = server.holds.clone();
            server.machine.serve(version).unwrap();
        }
        let (server, incarnation) = (ServerId(id), Incarnation(self.servers[&id].incarnation));
        let groups = vec![(GROUP, version)];
        said.extend(self.handle(Command::Equal { server, incarnation, groups }));
        said
    }

    /// A block as the member has it that it is brought from.
    fn content(&self, from: ServerId, bring: &Bring) -> BlockContent {
        let there = self.servers[&from.0].holds.contains_key(&bring.block);
        let version = bring.version;
        BlockContent { version, pages: u16::from(there), ..BlockContent::default() }
    }

    fn bring(&mut self, member: &Member, block: BlockId, content: BlockContent) {
        let server = self.servers.get_mut(&member.server.0).unwrap();
        if let Some(content) = server.machine.stage(block, content) {
            server.install(block, &content);
        }
    }

    /// The head brings the joiner what it lacks, and reports that it is ready.
    fn sync(&mut self, id: u64) -> Vec<String> {
        let head = &self.servers[&id].machine;
        let Some(joiner) = head.chain().and_then(|chain| chain.joiner.clone()) else {
            return vec!["nobody waits".to_owned()];
        };
        let version = head.version();
        let there = &self.servers[&joiner.server.0];
        if there.machine.at(version).is_err() || there.machine.phase() != Phase::Joining {
            return vec![format!("{} has not heard of it", joiner.server)];
        }
        let holdings = [self.servers[&id].holding(), there.holding()];
        let mut said = Vec::new();
        for bring in plan(&[Standing::Serving, Standing::Syncing], &holdings) {
            let (block, version) = (bring.block, bring.version);
            said.push(format!("block {} goes to {}: {}", block.block, joiner.server, at(version)));
            let content = self.content(ServerId(id), &bring);
            self.bring(&joiner, block, content);
        }
        let (server, incarnation) = (ServerId(id), Incarnation(self.servers[&id].incarnation));
        let groups = vec![(GROUP, version, joiner.server)];
        said.extend(self.handle(Command::Ready { server, incarnation, groups }));
        said
    }

    /// `write SERVER SEQUENCE BLOCK [at CHAIN] [if VERSION.ORDER] [by SESSION] [fenced]`
    fn mutate(&mut self, what: &str, id: u64, words: &[&str]) -> Vec<String> {
        let after =
            |key: &str| words.iter().position(|word| *word == key).map(|place| words[place + 1]);
        let (sequence, number_of) = (number(words.first()), number(words.get(1)));
        let server = self.servers.get_mut(&id).unwrap();
        let version = match after("at") {
            Some(version) => ChainVersion(version.parse().unwrap()),
            None => server.machine.version(),
        };
        let condition = after("if").map(|text| {
            let (chain, order) = text.split_once('.').unwrap();
            BlockVersion {
                chain: ChainVersion(chain.parse().unwrap()),
                order: Order(order.parse().unwrap()),
            }
        });
        let session = Fence(after("by").map_or(1, |session| session.parse().unwrap()));
        let writer = Writer { session, client: 1 };
        let ticket = Ticket { writer, sequence: Sequence(sequence), floor: Sequence(1) };
        let change = change(what, number_of, condition);
        let holds = &server.holds;
        let version_of = |block: BlockId| Ok(holds.get(&block).copied().unwrap_or_default());
        let fenced = words.contains(&"fenced");
        match server.machine.admit(version, &ticket, &change, fenced, version_of) {
            Admission::New(order) => {
                apply(server, (version, order), &change);
                server.log.insert(order, (ticket, change));
                vec![format!("{id} orders it as {}.{}", version.0, order.0)]
            }
            Admission::Wait(order) => vec![format!("it is under way as {}.{}", version.0, order.0)],
            Admission::Done => vec!["it was done before".to_owned()],
            Admission::Refused(refusal) => vec![format!("refused: {refusal}")],
        }
    }

    fn forward(&mut self, from: u64, to: u64, order: u64) -> Vec<String> {
        let order = Order(order);
        let version = self.servers[&from].machine.version();
        let Some((ticket, change)) = self.servers[&from].log.get(&order).cloned() else {
            return vec![format!("{from} has no such mutation")];
        };
        let server = self.servers.get_mut(&to).unwrap();
        vec![match server.machine.receive(version, order, &ticket, &change) {
            Receipt::Apply => {
                apply(server, (version, order), &change);
                server.log.insert(order, (ticket, change));
                format!("{to} applies {}.{}", version.0, order.0)
            }
            Receipt::Early => "one before it is missing".to_owned(),
            Receipt::Known => "it is known".to_owned(),
            Receipt::Refused(refusal) => format!("refused: {refusal}"),
        }]
    }

    fn settle(&mut self, id: u64, order: u64) -> Vec<String> {
        let server = self.servers.get_mut(&id).unwrap();
        let version = server.machine.version();
        if server.machine.is_open(version, Order(order)) {
            server.machine.settled(version, Order(order));
        } else {
            server.machine.reached_tail(Order(order));
        }
        Vec::new()
    }

    fn commit(&mut self, id: u64) -> Vec<String> {
        let server = self.servers.get_mut(&id).unwrap();
        server.disk = server.holds.clone();
        Vec::new()
    }

    /// What a client learns that believes the chain to be at `version`.
    fn read(&self, id: u64, version: u64, number: u64) -> String {
        let server = &self.servers[&id];
        if let Err(refusal) = server.machine.serves(ChainVersion(version)) {
            return format!("refused: {refusal}");
        }
        let (machine, offset) = (&server.machine, number * BLOCK);
        if !machine.is_tail()
            && let Some(order) = machine.dirty(MAIN, offset, PAGE as u32)
        {
            return format!("asks the tail whether it has {}", order.0);
        }
        at(server.holds.get(&block(number)).copied().unwrap_or_default())
    }

    fn quiet(&mut self, id: u64, session: u64) -> String {
        let server = self.servers.get_mut(&id).unwrap();
        let quiet = server.machine.is_quiet(Fence(session));
        format!("{id} {}", if quiet { "confirms the fence" } else { "has something under way" })
    }
}

fn change(what: &str, number: u64, condition: Option<BlockVersion>) -> Change {
    if what == "discard" {
        return Change::Discard(Discard { volume: MAIN, offset: number * BLOCK, length: BLOCK });
    }
    Change::Write(Write {
        volume: MAIN,
        offset: number * BLOCK,
        durable: false,
        condition,
        sums: Vec::new(),
        body: vec![0; PAGE as usize].into(),
    })
}

fn apply(server: &mut Server, (chain, order): (ChainVersion, Order), change: &Change) {
    match change {
        Change::Write(write) => {
            let id = BlockId::holding(write.volume, write.offset);
            server.holds.insert(id, BlockVersion { chain, order });
        }
        Change::Discard(discard) => {
            server.holds.remove(&BlockId::holding(discard.volume, discard.offset));
        }
    }
}
