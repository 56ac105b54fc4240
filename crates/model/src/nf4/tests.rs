//! Against bitsandbytes: `fixtures/nf4/cases.json`, made by `scripts/make-nf4-fixtures`.

use nightshift_core::random::sha256_hex;
use serde_json::Value;

use super::*;
use crate::nf4::double::DYNAMIC;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/nf4/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The numbers of a case, as `numbers` of the script makes them.
fn numbers(case: &Value) -> Vec<f32> {
    let size = |value: &Value| value.as_u64().unwrap() as usize;
    let count: usize = case["shape"].as_array().unwrap().iter().map(size).product();
    let offset = case["seed"].as_u64().unwrap() * 1_000_003;
    let number = |i: u64| {
        let h = (i + offset).wrapping_mul(2_654_435_761) & 0xFFFF_FFFF;
        let h = ((h ^ (h >> 15)).wrapping_mul(2_246_822_519)) & 0xFFFF_FFFF;
        let u = (h >> 8) as f32 * 2.0_f32.powi(-24) - 0.5;
        u * u * u
    };
    let mut values: Vec<f32> = (0..count as u64).map(number).collect();
    for range in case["zeros"].as_array().unwrap() {
        values[size(&range[0])..size(&range[1])].fill(0.0);
    }
    values
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn golden<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    nightshift_core::random::hex(bytes)
}

fn dequantised_sha(matrix: &Nf4) -> String {
    let mut values = vec![0.0; matrix.len()];
    matrix.dequantise(0..matrix.len(), &mut values);
    sha256_hex(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

#[test]
fn codebook_and_dynamic_map_are_those_of_bitsandbytes() {
    let fixture = fixture();
    assert_eq!(bits(&CODEBOOK), golden::<Vec<u32>>(&fixture["codebook"]));
    // Zero is +0 there and here.
    assert_eq!(bits(&DYNAMIC[..]), golden::<Vec<u32>>(&fixture["dynamic_map"]));
}

#[test]
fn bytes_scales_and_values_are_those_of_bitsandbytes() {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = &case["name"];
        let matrix = Nf4::quantise(&numbers(case), false);
        assert_eq!(hex(matrix.codes()), case["codes"].as_str().unwrap(), "{name}");
        let Scales::Plain(scales) = matrix.scales() else { panic!("plain scales") };
        assert_eq!(bits(scales), golden::<Vec<u32>>(&case["scales"]), "{name}");
        assert_eq!(dequantised_sha(&matrix), case["dequantised_sha256"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn double_quantisation_is_that_of_bitsandbytes() {
    for case in fixture()["cases"].as_array().unwrap() {
        let (name, wanted) = (&case["name"], &case["double"]);
        let matrix = Nf4::quantise(&numbers(case), true);
        let Scales::Double(double) = matrix.scales() else { panic!("double scales") };
        assert_eq!(hex(&double.codes), wanted["codes"].as_str().unwrap(), "{name}");
        // The mean's last bit is torch's own affair; with it, all the rest follows to the bit.
        let offset: u32 = golden(&wanted["offset"]);
        assert!(double.offset.to_bits().abs_diff(offset) <= 1, "{name}: {}", double.offset);
        let given = Double {
            offset: f32::from_bits(offset),
            absmax: golden::<Vec<u32>>(&wanted["absmax"]).into_iter().map(f32::from_bits).collect(),
            ..double.clone()
        };
        for (ours, theirs) in double.absmax.iter().zip(&given.absmax) {
            assert!(
                (ours - theirs).abs() <= 2e-7 * theirs.abs().max(double.offset.abs()),
                "{name}: {ours} {theirs}"
            );
        }
        let parts = (matrix.codes.clone(), Scales::Double(given));
        let matrix = Nf4::from_parts(matrix.len, BLOCK, parts.0, parts.1).unwrap();
        assert_eq!(dequantised_sha(&matrix), wanted["dequantised_sha256"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn any_range_gives_the_same_values() {
    let values: Vec<f32> = (0..1001).map(|i| (i as f32 * 0.37).sin()).collect();
    for double in [false, true] {
        let matrix = Nf4::quantise(&values, double);
        let mut whole = vec![0.0; values.len()];
        matrix.dequantise(0..values.len(), &mut whole);
        for (start, end) in [(0, 1), (1, 2), (63, 65), (7, 640), (64, 128), (129, 1001), (1000, 1001), (5, 5)]
        {
            let mut part = vec![0.0; end - start];
            matrix.dequantise(start..end, &mut part);
            assert_eq!(part, whole[start..end], "{start}..{end}");
        }
        let error = values.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 0.16, "{error}");
    }
}

#[test]
fn pieces_of_any_length_quantise_alike() {
    let values: Vec<f32> = (0..777).map(|i| (i as f32 * 1.7).cos()).collect();
    let mut quantiser = Quantiser::new(values.len());
    let mut rest = values.as_slice();
    for step in [1, 2, 60, 64, 65, 200, 385] {
        let (now, later) = rest.split_at(step);
        quantiser.push(now);
        rest = later;
    }
    assert!(rest.is_empty());
    assert_eq!(quantiser.finish(true), Nf4::quantise(&values, true));
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let parts = |len, block, codes, scales| {
        Nf4::from_parts(len, block, vec![0; codes], Scales::Plain(vec![1.0; scales]))
    };
    assert!(parts(65, 64, 33, 2).is_some());
    for (len, block, codes, scales) in [(65, 64, 32, 2), (65, 64, 33, 1), (65, 48, 33, 2), (65, 0, 33, 2)] {
        assert!(parts(len, block, codes, scales).is_none());
    }
}
