#![allow(warnings)]
use nightshift_model::*;
use std::time::Instant;
fn main() {
    let threads: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let rounds: usize = std::env::args().nth(3).unwrap().parse().unwrap();
    let model = Model::load(std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap();
    let mut decoder = Decoder::new(threads);
    for _ in 0..rounds {
        let mut cache = KvCache::new(&model.config, 1024);
        decoder.feed(&model, None, &mut cache, &[5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
        let t = Instant::now();
        let mut times = vec![];
        let mut sum = 0f64;
        for i in 0..400u32 {
            let s = Instant::now();
            let l = decoder.feed(&model, None, &mut cache, &[i * 7 % 8192]).unwrap();
            sum += f64::from(l[17]);
            times.push(s.elapsed().as_secs_f64());
        }
        let e = t.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        println!(
            "{:.1} tok/s, median {:.1}, best {:.1}, sum {sum}",
            400.0 / e,
            1.0 / times[200],
            1.0 / times[10]
        );
    }
}
