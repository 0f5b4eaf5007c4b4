//! Where subscriptions go: to a first place, to another one, and back among those that wait.

use super::{Command, Hub, Link, Phase};
use std::sync::Arc;

impl Hub {
    /// The open link with the fewest subscriptions that has room for one more.
    pub(super) fn least_loaded(&self, except: Option<u64>) -> Option<u64> {
        self.links
            .iter()
            .filter(|(id, link)| link.phase == Phase::Open && Some(**id) != except)
            .filter(|(_, link)| link.load() < self.config.max_streams)
            .min_by_key(|(_, link)| link.load())
            .map(|(id, _)| *id)
    }

    pub(super) fn place(&mut self, id: u64) {
        match self.least_loaded(None) {
            Some(link) => self.settle(id, link, false),
            None => {
                self.waiting.insert(id);
            }
        }
    }

    /// Makes a link the home of a subscription; replays go before what was asked for later.
    fn settle(&mut self, id: u64, link: u64, first: bool) {
        let (Some(placed), Some(carrier)) = (self.streams.get_mut(&id), self.links.get_mut(&link)) else {
            return;
        };
        placed.home = Some(link);
        placed.stream.lock().set_home(link);
        carrier.streams.insert(id);
        let command = Command::Subscribe(Arc::clone(&placed.stream));
        if first {
            carrier.commands.push_front(command);
        } else {
            carrier.commands.push_back(command);
        }
        carrier.signal.notify_one();
    }

    /// Gives the oldest `most` waiting subscriptions to a link, before its other commands and in their order.
    fn give(&mut self, link: u64, most: usize) {
        let ids: Vec<u64> = self.waiting.iter().copied().take(most).collect();
        for id in ids.iter().rev() {
            self.waiting.remove(id);
            self.settle(*id, link, true);
        }
    }

    /// A link that has just opened takes its share of what waits: the others are going to come for theirs.
    pub(super) fn take_share(&mut self, id: u64) {
        let links = self.staying().count().max(1);
        let share = self.streams.len().div_ceil(links).min(self.config.max_streams);
        let have = self.links.get(&id).map_or(0, Link::load);
        self.give(id, share.saturating_sub(have));
        self.even_out(id);
    }

    /// What waits goes to the links there are, the emptiest first.
    pub(super) fn spread(&mut self) {
        let open = self.links.values().filter(|link| link.phase == Phase::Open).count();
        while !self.waiting.is_empty() {
            let Some(link) = self.least_loaded(None) else { return };
            let room = self.config.max_streams - self.links.get(&link).map_or(0, Link::load);
            let each = self.waiting.len().div_ceil(open.max(1)).min(room).max(1);
            self.give(link, each);
        }
    }

    /// Moves subscriptions from the fullest links to one that has far fewer than the mean.
    fn even_out(&mut self, id: u64) {
        let open = self.links.values().filter(|link| link.phase == Phase::Open).count().max(1);
        let mean = (self.streams.len() - self.waiting.len()) / open;
        let have = self.links.get(&id).map_or(0, Link::load);
        if have * 4 >= mean * 3 {
            return;
        }
        let mut missing = mean - have;
        let donors: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.phase == Phase::Open).map(|(id, _)| *id).collect();
        for donor in donors.into_iter().filter(|donor| *donor != id) {
            let Some(link) = self.links.get(&donor) else { continue };
            let spare = link.streams.len().saturating_sub(mean).min(missing);
            let ids: Vec<u64> = link.streams.iter().rev().copied().collect();
            let mut given = 0;
            for stream in ids {
                if given == spare {
                    break;
                }
                given += usize::from(self.move_to(stream, id));
            }
            missing -= given;
        }
    }

    /// Lets a subscription move: it is made on the new link before it ends on the old one. Returns whether it moves.
    pub(super) fn move_to(&mut self, id: u64, to: u64) -> bool {
        let (Some(placed), Some(link)) = (self.streams.get_mut(&id), self.links.get_mut(&to)) else {
            return false;
        };
        if placed.heir.is_some() || placed.home == Some(to) {
            return false;
        }
        let mut intake = placed.stream.lock();
        if intake.is_paused() {
            // Nothing comes from the old link anyway.
            if let Some(home) = placed.home.replace(to) {
                intake.detach(home);
                intake.set_home(to);
                drop(intake);
                link.streams.insert(id);
                if let Some(old) = self.links.get_mut(&home) {
                    old.streams.remove(&id);
                }
            }
            return true;
        }
        intake.set_heir(to);
        drop(intake);
        placed.heir = Some(to);
        link.coming.insert(id);
        link.commands.push_back(Command::Subscribe(Arc::clone(&placed.stream)));
        link.signal.notify_one();
        true
    }

    pub(super) fn take_over(&mut self, id: u64, old: u64) {
        let Some(leaving) = self.links.get_mut(&old) else { return };
        if leaving.phase != Phase::Open {
            // It broke meanwhile: what it had is placed already, and this link stays as one more.
            return;
        }
        leaving.phase = Phase::Leaving;
        let streams: Vec<u64> = leaving.streams.iter().copied().collect();
        for stream in streams {
            self.move_to(stream, id);
        }
        self.close_if_empty(old);
    }

    pub(super) fn close_if_empty(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id)
            && link.phase == Phase::Leaving
            && link.streams.is_empty()
            && !matches!(link.commands.back(), Some(Command::Close))
        {
            link.commands.push_back(Command::Close);
            link.signal.notify_one();
        }
    }

    /// Takes everything off a link and finds it another place.
    pub(super) fn displace(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (streams, coming) = (std::mem::take(&mut link.streams), std::mem::take(&mut link.coming));
        for stream in coming {
            if let Some(placed) = self.streams.get_mut(&stream) {
                placed.heir = None;
                placed.stream.lock().detach(id);
            }
        }
        for stream in streams {
            let Some(placed) = self.streams.get_mut(&stream) else { continue };
            placed.stream.lock().detach(id);
            placed.home = placed.heir.take();
            match placed.home.and_then(|heir| self.links.get_mut(&heir)) {
                Some(heir) => {
                    heir.coming.remove(&stream);
                    heir.streams.insert(stream);
                }
                None => {
                    placed.home = None;
                    self.waiting.insert(stream);
                }
            }
        }
        // A link that was being emptied into this one stays where it is.
        let emptied: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.phase == Phase::Leaving && !link.streams.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for leaving in emptied {
            let heirless = self.links[&leaving]
                .streams
                .iter()
                .any(|stream| self.streams.get(stream).is_some_and(|placed| placed.heir.is_none()));
            if heirless && let Some(link) = self.links.get_mut(&leaving) {
                link.phase = Phase::Open;
            }
        }
        self.spread();
    }
}
