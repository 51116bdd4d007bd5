//! Several shards on the stage. A group is named by one of its segments.
//!
//! `shards N [later]` (and all spread at once, or not yet) ; `at K COMMAND` (of the shard K; without it: home) ; `move SEG to K` ; the steps
//! of a move: `probe SEG` , `freeze SEG` , `bring SEG MOST` (a part of so many pieces) , `drop SEG` , `placed SEG` , or
//! `place SEG` (all of them) ; `where SEG` ; `news K` ; `retire` ; `estate S` (of this shard) ; `seen S N`.

use super::stage::Stage;
use crate::{
    Grant, LockGroup, MoveId, Name, SessionId, Shard, Table,
    message::{Ask, Command, GroupCommand, GroupReply, GroupRow, Part, Reply, Seq},
};

impl Stage {
    pub(super) fn shards(&mut self, words: &[&str]) -> Vec<String> {
        match words[0] {
            "shards" => self.grow(words[1].parse().unwrap(), words.get(2) == Some(&"later")),
            "at" => {
                let shard = Shard(words[1].parse().unwrap());
                self.at(shard, |stage| stage.play(&words[2..].join(" ")))
            }
            "move" => {
                let (group, to) = (of_segment(words[1]), Shard(words[3].parse().unwrap()));
                self.group(Shard::HOME, GroupCommand::Move { group, to }).1
            }
            "where" => {
                let row = self.row(of_segment(words[1]));
                let going =
                    row.moving.map(|(to, by)| format!(", going to {} by move {}", to.0, by.0));
                vec![format!("at {}{}", row.shard.0, going.unwrap_or_default())]
            }
            "news" => self.news(Shard(words[1].parse().unwrap())),
            "retire" => {
                let over = self.table.news_for(SessionId(0)).ended;
                self.group(Shard::HOME, GroupCommand::Ended(over)).1
            }
            "estate" => {
                let estate = self.table.estate(self.session(words[1]));
                vec![estate.map_or("it is not known to be dead".to_owned(), |estate| {
                    let held = super::words::all(&estate.held);
                    format!("{held} (newest #{})", estate.newest.0)
                })]
            }
            "seen" => {
                let session = self.session(words[1]);
                let asks = vec![Ask::Seen(Grant(words[2].parse().unwrap()))];
                self.run(Command::Batch { session, seq: Seq(1_000), asks })
            }
            _ => self.step(words),
        }
    }

    /// Plays at another shard.
    fn at<R>(&mut self, shard: Shard, play: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.shard;
        self.turn_to(shard);
        let result = play(self);
        self.turn_to(before);
        result
    }

    fn turn_to(&mut self, shard: Shard) {
        if shard != self.shard {
            let table = self.others.remove(&shard).expect("there is such a shard");
            let left = std::mem::replace(&mut self.table, table);
            self.others.insert(self.shard, left);
            self.shard = shard;
        }
    }

    fn group(&mut self, shard: Shard, command: GroupCommand) -> (GroupReply, Vec<String>) {
        let (reply, told) = self.at(shard, |stage| stage.table_reply(Command::Group(command)));
        let Reply::Group(reply) = reply else { panic!("{reply:?}") };
        (reply, told)
    }

    fn row(&self, group: LockGroup) -> GroupRow {
        let rows = self.table.assignment().groups;
        rows.into_iter().find(|row| row.group == group).unwrap()
    }

    fn grow(&mut self, shards: u32, later: bool) -> Vec<String> {
        for shard in (1..shards).map(Shard) {
            self.others.entry(shard).or_insert_with(|| Table::of(shard));
        }
        let told = self.group(Shard::HOME, GroupCommand::Shards(shards)).1;
        for shard in (1..shards).map(Shard) {
            self.news(shard);
        }
        for row in self.table.assignment().groups {
            if !later {
                self.place(&row);
            }
        }
        told
    }

    fn news(&mut self, shard: Shard) -> Vec<String> {
        let mut after = SessionId(0);
        loop {
            let news = self.table.news_for(after);
            let until = news.until;
            let (reply, told) = self.group(shard, GroupCommand::News(news));
            let GroupReply::Met(met) = reply else { panic!("{reply:?}") };
            if met >= until {
                return told;
            }
            after = met;
        }
    }

    /// All steps of a move; what those who listen are told.
    fn place(&mut self, row: &GroupRow) -> Vec<String> {
        let Some((to, by)) = row.moving else { return Vec::new() };
        let group = row.group;
        let mut part = Part::nothing();
        let mut told = Vec::new();
        loop {
            let (reply, mut said) = self.group(to, GroupCommand::Adopt { group, by, part });
            let GroupReply::Needs(from) = reply else {
                assert_eq!(reply, GroupReply::Done);
                told.append(&mut said);
                break;
            };
            let (frozen, _) = self.group(row.shard, GroupCommand::Freeze { group, by });
            assert_eq!(frozen, GroupReply::Done);
            part = self.export(row.shard, (group, by), from, usize::MAX);
        }
        self.group(row.shard, GroupCommand::Forget { group, by });
        self.group(Shard::HOME, GroupCommand::Placed { group, by });
        told
    }

    fn export(
        &mut self,
        from: Shard,
        (group, by): (LockGroup, MoveId),
        name: Name,
        most: usize,
    ) -> Part {
        self.at(from, |stage| stage.table.export(group, by, name, most)).expect("it is frozen")
    }

    /// One step of a move, in the order that the transcript likes.
    fn step(&mut self, words: &[&str]) -> Vec<String> {
        let group = of_segment(words[1]);
        let row = self.row(group);
        // One that is done can be done again.
        let (to, by) = row.moving.unwrap_or((row.shard, row.by));
        match words[0] {
            "place" => self.place(&row),
            "probe" => self.group(to, GroupCommand::Adopt { group, by, part: Part::nothing() }).1,
            "freeze" => self.group(row.shard, GroupCommand::Freeze { group, by }).1,
            "bring" => {
                let part = Part::nothing();
                let (reply, told) = self.group(to, GroupCommand::Adopt { group, by, part });
                let GroupReply::Needs(name) = reply else { return told };
                let part = self.export(row.shard, (group, by), name, words[2].parse().unwrap());
                self.group(to, GroupCommand::Adopt { group, by, part }).1
            }
            "drop" => self.group(row.shard, GroupCommand::Forget { group, by }).1,
            "placed" => self.group(Shard::HOME, GroupCommand::Placed { group, by }).1,
            other => panic!("no such step: {other}"),
        }
    }
}

fn of_segment(word: &str) -> LockGroup {
    LockGroup::of(Name::new(0, word.parse().unwrap(), 0))
}
