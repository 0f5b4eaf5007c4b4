//! How large a B-tree will be, from statistics: HypoPG's own estimate leaves out deduplication and is up to 3.7 times too
//! large.

/// A column as far as its place in an index is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnSize {
    /// Mean width of its values in bytes, as in `pg_stats.avg_width`.
    pub width: f64,
    /// Bytes its values are aligned to: 1, 2, 4 or 8.
    pub align: f64,
    /// Whether its type has a fixed length.
    pub fixed: bool,
    /// The share of rows in which it is NULL.
    pub nulls: f64,
    /// How many different values it has.
    pub distinct: f64,
    /// Whether equal values are always equal byte for byte, which deduplication needs. Not so for `numeric`, floating point,
    /// `jsonb` and arrays.
    pub equal_image: bool,
}

/// What decides the size of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexSize {
    /// Rows it will hold.
    pub rows: f64,
    /// Its keys in order.
    pub keys: Vec<ColumnSize>,
    /// The columns beside them.
    pub include: Vec<ColumnSize>,
}

/// A page without its header and the B-tree's own part.
const PAGE: f64 = 8192.0 - 24.0 - 16.0;
/// Leaf pages are filled to this share.
const LEAF_FILL: f64 = 0.90;
const INNER_FILL: f64 = 0.70;
const HEADER: f64 = 8.0;
const LINE_POINTER: f64 = 4.0;
const HEAP_POINTER: f64 = 6.0;
/// A list of row pointers grows to a tenth of a page while an index is built.
const MAX_POSTING: f64 = 812.0;
const MAX_ALIGN: f64 = 8.0;

fn aligned(size: f64, to: f64) -> f64 {
    (size / to).ceil() * to
}

impl IndexSize {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tuple = self.tuple();
        let leaf_bytes = self.leaf_bytes(tuple);
        let leaves = (leaf_bytes / (PAGE * LEAF_FILL)).ceil().max(1.0);
        let fanout = (PAGE * INNER_FILL / (self.pivot() + LINE_POINTER)).max(2.0);
        let (mut pages, mut level) = (leaves + 1.0, leaves);
        while level > 1.0 {
            level = (level / fanout).ceil();
            pages += level;
        }
        (pages * 8192.0) as u64
    }

    /// Bytes of one index tuple with its data, aligned.
    fn tuple(&self) -> f64 {
        let columns = || self.keys.iter().chain(&self.include);
        let any_null = 1.0 - columns().map(|c| 1.0 - c.nulls).product::<f64>();
        on_average(HEADER + 8.0 * any_null.round(), columns())
    }

    /// Inner pages hold keys only.
    fn pivot(&self) -> f64 {
        on_average(HEADER, self.keys.iter())
    }

    /// Bytes of all leaf tuples with their line pointers.
    fn leaf_bytes(&self, tuple: f64) -> f64 {
        let single = self.rows * (tuple + LINE_POINTER);
        let distinct = self.distinct();
        let each = self.rows / distinct;
        let deduplicates = self.include.is_empty() && self.keys.iter().all(|key| key.equal_image);
        if !deduplicates || each < 1.02 {
            return single;
        }
        // Some values occur once although the mean is above one; how many, Poisson's law says.
        let rate = if each < 2.0 { 2.0 * (each - 1.0) } else { each };
        let once = rate * (-rate).exp() / (1.0 - (-rate).exp());
        let others = (each - once) / (1.0 - once).max(1e-9);
        let value = once * (tuple + LINE_POINTER) + (1.0 - once) * repeated(tuple, others);
        (distinct * value).min(single)
    }

    /// How many different keys there are. Columns are taken to be independent, and of all combinations those count that so
    /// many rows can be expected to show.
    fn distinct(&self) -> f64 {
        let product: f64 = self.keys.iter().map(|key| key.distinct.max(1.0)).product();
        let seen =
            if self.keys.len() == 1 { product } else { product * (1.0 - (-self.rows / product).exp()) };
        // A key that is different in every row makes every combination different.
        let least = self.keys.iter().map(|key| key.distinct).fold(1.0, f64::max);
        seen.max(least).min(self.rows).max(1.0)
    }
}

/// The row pointers of one value: full lists, then what is left over.
fn repeated(tuple: f64, pointers: f64) -> f64 {
    let most = ((MAX_POSTING - tuple) / HEAP_POINTER).floor().max(2.0);
    let full = (pointers / most).floor();
    let rest = pointers - full * most;
    // Rounding up to the alignment costs half of it on average where the number of rows per value varies.
    let last = match rest {
        rest if rest <= 0.0 => 0.0,
        rest if rest <= 1.0 => rest * (tuple + LINE_POINTER),
        rest => tuple + rest * HEAP_POINTER + MAX_ALIGN / 2.0 + LINE_POINTER,
    };
    full * (MAX_POSTING + LINE_POINTER) + last
}

/// Header and data, aligned. Where widths vary from row to row, so does what aligning adds.
fn on_average<'a>(header: f64, mut columns: impl Iterator<Item = &'a ColumnSize> + Clone) -> f64 {
    let size = header + data(columns.clone());
    if columns.all(|column| column.fixed) { aligned(size, MAX_ALIGN) } else { size + (MAX_ALIGN - 1.0) / 2.0 }
}

fn data<'a>(columns: impl Iterator<Item = &'a ColumnSize>) -> f64 {
    let mut at = 0.0;
    for column in columns {
        // Short values of variable length carry a one-byte header, counted in the width, and are not aligned.
        let align = if column.fixed || column.width > 126.0 { column.align } else { 1.0 };
        at = aligned(at, align) + column.width * (1.0 - column.nulls);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(distinct: f64) -> ColumnSize {
        ColumnSize { width: 4.0, align: 4.0, fixed: true, nulls: 0.0, distinct, equal_image: true }
    }

    #[test]
    fn b3_repeated_values_take_a_third_of_unique_ones() {
        let index = |distinct| {
            IndexSize { rows: 600_000.0, keys: vec![int(distinct)], include: vec![] }.bytes() as f64 / 1e6
        };
        // Measured on PostgreSQL 15: 13.5 MB unique, 4.4 MB for 30 rows per value.
        assert!((13.0..14.2).contains(&index(600_000.0)), "{}", index(600_000.0));
        assert!((4.0..5.0).contains(&index(20_000.0)), "{}", index(20_000.0));
    }

    #[test]
    fn included_columns_prevent_deduplication() {
        let mut index = IndexSize { rows: 1e6, keys: vec![int(100.0)], include: vec![] };
        let narrow = index.bytes();
        index.include.push(int(2.0));
        assert!(index.bytes() > 2 * narrow);
    }

    #[test]
    fn an_empty_table_has_an_index_of_two_pages() {
        assert_eq!(IndexSize { rows: 0.0, keys: vec![int(1.0)], include: vec![] }.bytes(), 16_384);
    }
}
