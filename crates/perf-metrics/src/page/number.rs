//! Numbers as the text formats write them, without allocating.

use std::io::Write;

/// Writes a whole number.
pub(super) fn whole(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a number so that it reads back exactly; infinities as Prometheus spells them.
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if number.fract() == 0.0 && number.abs() < 9e15 {
        if number < 0.0 {
            out.push(b'-');
        }
        whole(out, number.abs() as u64);
    } else {
        // Writing into memory cannot fail. Very large and very small numbers are shorter with an exponent.
        let plain = (1e-6..1e16).contains(&number.abs());
        let _ = if plain { write!(out, "{number}") } else { write!(out, "{number:e}") };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(number: f64) -> String {
        let mut out = Vec::new();
        float(&mut out, number);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_read_like_prometheus_writes_them() {
        for (number, expected) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (0.25, "0.25"),
            (1e-9, "1e-9"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (1e300, "1e300"),
        ] {
            assert_eq!(text(number), expected);
        }
    }

    proptest! {
        #[test]
        fn any_number_reads_back_exactly(number in any::<f64>()) {
            prop_assume!(number.is_finite());
            prop_assert_eq!(text(number).parse::<f64>().unwrap(), number);
        }

        #[test]
        fn whole_numbers_are_written_in_full(number in any::<u64>()) {
            let mut out = Vec::new();
            whole(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
