//! Deadlines in O(1). Every kind of time-out has one constant duration, so the things that wait for it form a
//! FIFO with the oldest always in front. The FIFO is a doubly linked list threaded, by index, through the
//! slab that holds the waiting things: no heap, no timer wheel, no allocation.

use super::id::NONE;
use super::time::Stamp;

/// The position of one thing in at most one [`Fifo`]; it is stored in the thing.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    previous: u32,
    next: u32,
    /// When the thing was put at the back of its FIFO.
    since: Stamp,
}

impl Default for Link {
    fn default() -> Self {
        Self { previous: NONE, next: NONE, since: Stamp::default() }
    }
}

/// A slab whose things can wait in a FIFO.
pub trait Links {
    /// The link of the thing at `index`, which must be occupied.
    fn link(&mut self, index: u32) -> &mut Link;
}

/// Things in the order in which they began to wait.
///
/// A thing is on at most one FIFO at a time, and its owner knows on which one: the list itself cannot tell.
#[derive(Debug, Clone, Copy)]
pub struct Fifo {
    front: u32,
    back: u32,
    len: u32,
}

impl Default for Fifo {
    fn default() -> Self {
        Self { front: NONE, back: NONE, len: 0 }
    }
}

impl Fifo {
    pub const fn len(&self) -> u32 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The thing that has waited longest, and since when.
    pub fn front(&self, links: &mut impl Links) -> Option<(u32, Stamp)> {
        (self.front != NONE).then(|| (self.front, links.link(self.front).since))
    }

    /// Puts `index`, which is on no FIFO, at the back.
    pub fn push(&mut self, links: &mut impl Links, index: u32, now: Stamp) {
        *links.link(index) = Link { previous: self.back, next: NONE, since: now };
        if self.back == NONE {
            self.front = index;
        } else {
            links.link(self.back).next = index;
        }
        self.back = index;
        self.len += 1;
    }

    /// Takes `index`, which is on this FIFO, out of it.
    pub fn remove(&mut self, links: &mut impl Links, index: u32) {
        let Link { previous, next, .. } = std::mem::take(links.link(index));
        if previous == NONE {
            debug_assert_eq!(self.front, index);
            self.front = next;
        } else {
            links.link(previous).next = next;
        }
        if next == NONE {
            debug_assert_eq!(self.back, index);
            self.back = previous;
        } else {
            links.link(next).previous = previous;
        }
        self.len -= 1;
    }

    /// Moves `index`, which is on this FIFO, to the back.
    pub fn touch(&mut self, links: &mut impl Links, index: u32, now: Stamp) {
        self.remove(links, index);
        self.push(links, index, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slab(Vec<Link>);

    impl Links for Slab {
        fn link(&mut self, index: u32) -> &mut Link {
            &mut self.0[index as usize]
        }
    }

    fn order(fifo: Fifo, slab: &mut Slab) -> Vec<u32> {
        let mut seen = Vec::new();
        let mut at = fifo.front;
        while at != NONE {
            seen.push(at);
            at = slab.link(at).next;
        }
        assert_eq!(seen.len(), fifo.len() as usize);
        seen
    }

    #[test]
    fn a_fifo_keeps_its_order_through_removals_and_touches() {
        let mut slab = Slab(vec![Link::default(); 5]);
        let mut fifo = Fifo::default();
        for index in 0..5 {
            fifo.push(&mut slab, index, Stamp::from_ms(u64::from(index)));
        }
        fifo.remove(&mut slab, 2);
        assert_eq!(order(fifo, &mut slab), [0, 1, 3, 4]);
        fifo.touch(&mut slab, 0, Stamp::from_ms(9));
        assert_eq!(order(fifo, &mut slab), [1, 3, 4, 0]);
        fifo.remove(&mut slab, 0);
        fifo.remove(&mut slab, 1);
        assert_eq!(fifo.front(&mut slab), Some((3, Stamp::from_ms(3))));
        fifo.remove(&mut slab, 3);
        fifo.remove(&mut slab, 4);
        assert!(fifo.is_empty());
        assert_eq!(fifo.front(&mut slab), None);
    }
}
