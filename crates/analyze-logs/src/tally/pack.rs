//! Cells as bytes for the store: LEB128 numbers, sketches as differences of buckets.

use super::{Cell, Sketch};

/// The bytes of some cells.
pub(crate) fn pack(cells: &[Cell]) -> Vec<u8> {
    let mut out = Vec::with_capacity(cells.len() * 256);
    for cell in cells {
        put(&mut out, u64::from(cell.hour.cast_unsigned()));
        put(&mut out, cell.cost_nano.cast_unsigned());
        let (least, most) = cell.extremes.unwrap_or((u64::MAX, 0));
        for value in [cell.calls, cell.errors, cell.timeouts, cell.slow, cell.long, cell.dear] {
            put(&mut out, value);
        }
        for value in [cell.tokens.0, cell.tokens.1, cell.duration_us, least, most] {
            put(&mut out, value);
        }
        put(&mut out, cell.sketch.0.len() as u64);
        let mut before = 0;
        for &(bucket, count) in &cell.sketch.0 {
            put(&mut out, u64::from(bucket - before));
            put(&mut out, u64::from(count));
            before = bucket;
        }
    }
    out
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The cells of [`pack`]; `None` for bytes that it did not write.
pub(crate) fn unpack(mut bytes: &[u8]) -> Option<Vec<Cell>> {
    let mut cells = Vec::new();
    while !bytes.is_empty() {
        let mut next = || take(&mut bytes);
        let hour = u32::try_from(next()?).ok()?.cast_signed();
        let cost_nano = next()?.cast_signed();
        let [calls, errors, timeouts, slow, long, dear] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        let tokens = (next()?, next()?);
        let duration_us = next()?;
        let extremes = Some((next()?, next()?)).filter(|(least, most)| least <= most);
        let count = next()?;
        // A bucket takes two bytes at least: foreign bytes cannot ask for more memory than they have.
        let mut buckets = Vec::with_capacity(usize::try_from(count).ok()?.min(bytes.len() / 2));
        let mut next = || take(&mut bytes);
        let mut bucket = 0_u16;
        for _ in 0..count {
            bucket = bucket.checked_add(u16::try_from(next()?).ok()?)?;
            buckets.push((bucket, u32::try_from(next()?).ok()?));
        }
        let sketch = Sketch(buckets);
        cells.push(Cell {
            hour,
            calls,
            errors,
            timeouts,
            slow,
            long,
            dear,
            cost_nano,
            tokens,
            duration_us,
            extremes,
            sketch,
        });
    }
    Some(cells)
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cells_come_back(hour in any::<i32>(), cost in any::<i64>(), counts in any::<[u64; 6]>(), durations in proptest::collection::vec(any::<u64>(), 0..40)) {
            let [calls, errors, timeouts, slow, long, dear] = counts;
            let mut cell = Cell { hour, calls, errors, timeouts, slow, long, dear, cost_nano: cost, ..Cell::default() };
            for us in &durations {
                cell.sketch.add(*us);
            }
            cell.extremes = durations.iter().copied().min().zip(durations.iter().copied().max());
            let cells = vec![cell.clone(), Cell::default(), cell];
            let bytes = pack(&cells);
            prop_assert_eq!(unpack(&bytes), Some(cells));
            prop_assert_eq!(unpack(&bytes[..bytes.len() - 1]), None);
        }
    }
}
