//! Numbered places that are reused, and given back when they empty.

/// A growable set of values with small stable numbers.
///
/// Places come in pages, and a page without values is given back wherever it is, so that a few long-lived
/// values among the last do not hold what a million others needed. Values that were put in one after another stand side
/// by side, and who goes through all of them finds the next one in the processor's caches already.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Option<Box<Page<T>>>>,
    /// Pages with room, newest last. May name full pages and pages beyond the end: those are skipped.
    open: Vec<u32>,
}

#[derive(Debug)]
struct Page<T> {
    places: [Option<T>; PAGE],
    /// One bit per place in use.
    used: u32,
    /// Whether `open` names this page.
    is_open: bool,
}

/// Places per page: with values of a hundred bytes as much as one of the system's pages. One value that stays among
/// others that leave holds no more than this.
const PAGE: usize = 32;

impl<T> Page<T> {
    fn new() -> Box<Self> {
        Box::new(Self {
            places: [const { None }; PAGE],
            used: 0,
            is_open: true,
        })
    }

    fn free_place(&self) -> Option<usize> {
        (self.used != u32::MAX).then(|| self.used.trailing_ones() as usize)
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            open: Vec::new(),
        }
    }

    /// One past the highest number that may be in use.
    pub(crate) const fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        loop {
            let Some(&number) = self.open.last() else {
                self.open
                    .push(u32::try_from(self.pages.len()).expect("pages fit in memory"));
                self.pages.push(Some(Page::new()));
                continue;
            };
            let Some(page) = self.pages.get_mut(number as usize) else {
                self.open.pop();
                continue;
            };
            let page = page.get_or_insert_with(Page::new);
            let Some(place) = page.free_place() else {
                page.is_open = false;
                self.open.pop();
                continue;
            };
            page.places[place] = Some(value);
            page.used |= 1 << place;
            let number = number as usize * PAGE + place;
            return u32::try_from(number).expect("fewer than 2^32 places fit in memory");
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let (number, place) = split(number);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let value = page.places[place].take()?;
        page.used &= !(1 << place);
        if !std::mem::replace(&mut page.is_open, true) {
            self.open.extend(u32::try_from(number));
        }
        if page.used == 0 {
            self.give_back_page(number);
        }
        Some(value)
    }

    fn give_back_page(&mut self, number: usize) {
        self.pages[number] = None;
        while let Some(None) = self.pages.last() {
            self.pages.pop();
        }
        give_back(&mut self.pages);
        // Without this the names of pages beyond the end would pile up.
        if self.open.len() > 2 * self.pages.len() + SMALL {
            let end = self.pages.len();
            self.open.retain(|&page| (page as usize) < end);
            self.open.sort_unstable();
            self.open.dedup();
            give_back(&mut self.open);
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (page, place) = split(number);
        self.pages.get(page)?.as_ref()?.places[place].as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (page, place) = split(number);
        self.pages.get_mut(page)?.as_mut()?.places[place].as_mut()
    }

    #[cfg(test)]
    pub(crate) fn size_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        self.pages.capacity() * size_of::<Option<Box<Page<T>>>>()
            + self.open.capacity() * size_of::<u32>()
            + pages * size_of::<Page<T>>()
    }
}

const fn split(number: u32) -> (usize, usize) {
    (number as usize / PAGE, number as usize % PAGE)
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
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_that_chooses_its_keys(
            ops in prop::collection::vec((any::<bool>(), any::<u32>()), 1..3_000),
        ) {
            let (mut slab, mut model) = (Slab::new(), HashMap::new());
            let mut numbers = Vec::new();
            for (insert, n) in ops {
                if insert || numbers.is_empty() {
                    let number = slab.insert(n);
                    prop_assert_eq!(model.insert(number, n), None, "handed out twice");
                    numbers.push(number);
                } else {
                    let number = numbers.swap_remove(n as usize % numbers.len());
                    prop_assert_eq!(slab.remove(number), model.remove(&number));
                    prop_assert!(slab.remove(number).is_none());
                }
            }
            for (&number, n) in &model {
                prop_assert_eq!(slab.get(number), Some(n));
                prop_assert!((number as usize) < slab.end());
            }
        }
    }

    #[test]
    fn memory_is_given_back_even_behind_one_that_stays() {
        let value = |n: u32| [n; 32];
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..100_000).map(|n| slab.insert(value(n))).collect();
        let full = slab.size_bytes();
        let (last, others) = numbers.split_last().unwrap();
        for number in others {
            assert!(slab.remove(*number).is_some());
        }
        assert_eq!(slab.get(*last), Some(&value(99_999)));
        let left = slab.size_bytes();
        assert!(left < full / 200, "{left} of {full}");
        for n in 0..1_000 {
            slab.insert(value(n));
        }
        assert_eq!(slab.get(*last), Some(&value(99_999)));
    }
}
