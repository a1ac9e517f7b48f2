//! Which sequences run: the slots, the sequences in them, and the queue of those that wait. Independent of the model.

use std::collections::VecDeque;

use crate::generate::Sequence;

/// Sequences and slots. A sequence that ends or is removed makes room for the next in the queue.
pub(super) struct Scheduler {
    waiting: VecDeque<(usize, Sequence)>,
    running: Vec<Running>,
    /// Free slots; the last is taken next.
    free: Vec<usize>,
    /// Sequences added so far.
    added: usize,
}

/// A sequence that has a slot.
pub(super) struct Running {
    pub(super) index: usize,
    pub(super) slot: usize,
    pub(super) sequence: Sequence,
}

impl Scheduler {
    pub(super) fn new(n_slots: usize) -> Self {
        Self { waiting: VecDeque::new(), running: Vec::new(), free: (0..n_slots).rev().collect(), added: 0 }
    }

    /// Adds a sequence, which waits until it is admitted, and returns its number.
    pub(super) fn add(&mut self, sequence: Sequence) -> usize {
        let index = self.added;
        self.added += 1;
        self.waiting.push_back((index, sequence));
        index
    }

    /// Removes a sequence; `None` if it has ended already.
    pub(super) fn remove(&mut self, index: usize) -> Option<Sequence> {
        if let Some(position) = self.waiting.iter().position(|(waiting, _)| *waiting == index) {
            return self.waiting.remove(position).map(|(_, sequence)| sequence);
        }
        let position = self.running.iter().position(|running| running.index == index)?;
        let running = self.running.remove(position);
        self.free.push(running.slot);
        Some(running.sequence)
    }

    /// Gives free slots to waiting sequences, first come first served; returns these slots.
    pub(super) fn admit(&mut self) -> Vec<usize> {
        let mut admitted = Vec::new();
        while let Some(slot) = self.free.pop_if(|_| !self.waiting.is_empty()) {
            let (index, sequence) = self.waiting.pop_front().expect("the queue is not empty");
            self.running.push(Running { index, slot, sequence });
            admitted.push(slot);
        }
        admitted
    }

    /// The sequences that have a slot.
    pub(super) fn running(&mut self) -> &mut [Running] {
        &mut self.running
    }

    /// Keeps the running sequences for which `go_on` returns true, in their order, and frees the slots of the others.
    pub(super) fn retain(&mut self, mut go_on: impl FnMut(&mut Running) -> bool) {
        let free = &mut self.free;
        self.running.retain_mut(|running| {
            let goes_on = go_on(running);
            if !goes_on {
                free.push(running.slot);
            }
            goes_on
        });
    }

    /// Unfinished sequences.
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use gptj_checkpoint::Config;

    use super::*;
    use crate::GenerateOptions;

    fn sequence(token: u32) -> Sequence {
        Sequence::new(&Config::default(), None, &[token], &GenerateOptions::default()).expect("a good prompt")
    }

    fn running(scheduler: &mut Scheduler) -> Vec<(usize, usize)> {
        scheduler.running().iter().map(|running| (running.index, running.slot)).collect()
    }

    #[test]
    fn slots_go_to_the_longest_waiting() {
        let mut scheduler = Scheduler::new(2);
        let added: Vec<_> = (0..4).map(|token| scheduler.add(sequence(token))).collect();
        assert_eq!(added, [0, 1, 2, 3]);
        assert_eq!(scheduler.admit(), [0, 1]);
        assert_eq!(scheduler.admit(), [0; 0], "no slot is free");
        scheduler.retain(|running| running.index != 0);
        assert_eq!(scheduler.admit(), [0]);
        assert_eq!(running(&mut scheduler), [(1, 1), (2, 0)]);
        assert_eq!(scheduler.len(), 3);
    }

    #[test]
    fn a_removed_sequence_makes_room() {
        let mut scheduler = Scheduler::new(1);
        for token in 0..3 {
            scheduler.add(sequence(token));
        }
        scheduler.admit();
        assert_eq!(scheduler.remove(1).expect("it waits").tokens(), [1]);
        assert_eq!(scheduler.remove(0).expect("it runs").tokens(), [0]);
        assert!(scheduler.remove(0).is_none(), "it is gone");
        assert_eq!(scheduler.admit(), [0]);
        assert_eq!(running(&mut scheduler), [(2, 0)]);
    }
}
