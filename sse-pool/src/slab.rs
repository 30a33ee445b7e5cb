//! Numbered places that are reused, and given back when most are empty.

/// A growable set of values with small stable numbers.
///
/// Values are boxed, so an empty place costs eight bytes; places at the end are given back as they empty.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<Box<T>>>,
    /// Empty places, newest last. May name places that were given back since: those are skipped.
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// One past the highest number in use.
    pub(crate) const fn end(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn insert(&mut self, value: Box<T>) -> u32 {
        while let Some(number) = self.free.pop() {
            if let Some(place @ None) = self.places.get_mut(number as usize) {
                *place = Some(value);
                return number;
            }
        }
        let number =
            u32::try_from(self.places.len()).expect("fewer than 2^32 places fit in memory");
        self.places.push(Some(value));
        number
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Box<T>> {
        let value = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        while let Some(None) = self.places.last() {
            self.places.pop();
        }
        if self.places.is_empty() {
            self.free.clear();
        }
        give_back(&mut self.places);
        // Numbers beyond the end are of no use any more; without this they would pile up.
        if self.free.len() > 2 * self.places.len() + SMALL {
            let end = self.places.len();
            self.free.retain(|&number| (number as usize) < end);
        }
        give_back(&mut self.free);
        Some(value)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_deref_mut()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity() + self.free.capacity()
    }
}

/// Below this many elements capacity is kept: giving it back would only be asked for again.
const SMALL: usize = 16;

/// Gives capacity back when less than a quarter of it is used.
pub(crate) fn give_back<T>(vec: &mut Vec<T>) {
    if vec.capacity() > SMALL && vec.len() < vec.capacity() / 4 {
        vec.shrink_to(vec.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_memory_is_given_back() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..10_000).map(|n| slab.insert(Box::new(n))).collect();
        let third = numbers[3];
        assert_eq!(slab.remove(third).as_deref(), Some(&3));
        assert_eq!(slab.remove(third), None);
        assert_eq!(slab.insert(Box::new(33)), third);
        for number in &numbers[1..] {
            assert!(slab.remove(*number).is_some());
        }
        assert_eq!((slab.len(), slab.end(), slab.get(0)), (1, 1, Some(&0)));
        assert!(slab.capacity() < 200, "{}", slab.capacity());
        assert!(slab.remove(0).is_some());
        assert!(slab.insert(Box::new(1)) == 0);
    }

    #[test]
    fn a_number_given_back_and_taken_again_is_never_handed_out_twice() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert(Box::new('a')), slab.insert(Box::new('b')));
        slab.remove(b); // given back: the free list still names it
        slab.remove(a);
        let (c, d, e) = (
            slab.insert(Box::new('c')),
            slab.insert(Box::new('d')),
            slab.insert(Box::new('e')),
        );
        assert!(c != d && d != e && c != e);
        assert_eq!(slab.len(), 3);
    }
}
