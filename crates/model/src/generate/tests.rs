//! Sampling, probabilities, and the ways an answer ends.

use super::*;
use crate::tiny;
use crate::train::logits;

fn run(
    options: &GenerateOptions,
    capacity: usize,
    go_on: &mut dyn FnMut(&TokenOut) -> bool,
) -> Result<Generation> {
    let model = tiny::model(tiny::config(), 21);
    let mut cache = KvCache::new(&model.config, capacity);
    generate(&model, None, &mut Decoder::new(1), &mut cache, &[3, 1, 4], options, go_on)
}

fn ids(generation: &Generation) -> Vec<u32> {
    generation.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn greedy_answers_take_the_likeliest_token_and_tell_its_probability() {
    let options = GenerateOptions { max_tokens: 6, top_logprobs: 3, ..GenerateOptions::default() };
    let answer = run(&options, 50, &mut |_| true).unwrap();
    assert_eq!((answer.tokens.len(), answer.finish, answer.prompt_tokens), (6, Finish::Length, 3));
    let model = tiny::model(tiny::config(), 21);
    let mut sequence = vec![3, 1, 4];
    for token in &answer.tokens {
        let all = logits(&model, None, &sequence).unwrap();
        let last = &all[all.len() - model.config.vocab_size..];
        let sum: f64 = last.iter().map(|x| x.exp()).sum();
        assert_eq!(token.id, argmax(last));
        assert!((f64::from(token.logprob) - (last[token.id as usize] - sum.ln())).abs() < 1e-6);
        assert_eq!(token.top.len(), 3);
        assert_eq!(token.top[0], (token.id, token.logprob));
        assert!(token.top[1].1 >= token.top[2].1);
        sequence.push(token.id);
    }
}

#[test]
fn an_end_token_stops_and_its_probability_is_told() {
    let options = GenerateOptions { max_tokens: 6, ..GenerateOptions::default() };
    let free = run(&options, 50, &mut |_| true).unwrap();
    let end = free.tokens[2].id;
    let first = ids(&free).iter().position(|id| *id == end).unwrap();
    let answer = run(&GenerateOptions { eos: vec![end], ..options }, 50, &mut |_| true).unwrap();
    assert_eq!((answer.finish, answer.tokens.len()), (Finish::Stop, first));
    assert_eq!(answer.stop_logprob, Some(free.tokens[first].logprob));
}

#[test]
fn callback_and_capacity_end_an_answer() {
    let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
    let mut left = 2;
    let answer = run(&options, 50, &mut |_| {
        left -= 1;
        left > 0
    });
    let answer = answer.unwrap();
    assert_eq!((answer.finish, answer.tokens.len(), answer.stop_logprob), (Finish::Cancelled, 2, None));
    let answer = run(&options, 8, &mut |_| true).unwrap();
    // Five tokens fit behind the prompt, and one more is predicted from the last of them.
    assert_eq!((answer.finish, answer.tokens.len()), (Finish::Length, 6));
    assert!(run(&options, 2, &mut |_| true).is_err());
    let none = GenerateOptions { max_tokens: 0, ..GenerateOptions::default() };
    assert!(run(&none, 50, &mut |_| true).unwrap().tokens.is_empty());
}

#[test]
fn bad_options_are_refused() {
    for (temperature, top_p) in [(-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5), (1.0, f32::NAN)] {
        let options = GenerateOptions { temperature, top_p, ..GenerateOptions::default() };
        assert!(run(&options, 50, &mut |_| true).is_err(), "{temperature} {top_p}");
    }
}

#[test]
fn one_seed_gives_one_answer_and_others_differ() {
    let with =
        |seed| GenerateOptions { max_tokens: 12, temperature: 1.5, seed, ..GenerateOptions::default() };
    let answer = |seed| ids(&run(&with(seed), 50, &mut |_| true).unwrap());
    assert_eq!(answer(1), answer(1));
    assert!((2..6).any(|seed| answer(seed) != answer(1)));
}

/// Shares of 20,000 draws.
fn shares(options: &GenerateOptions, logits: &[f64]) -> Vec<f64> {
    let mut sampler = Sampler::new(options);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..20_000 {
        counts[sampler.next(logits).id as usize] += 1.0 / 20_000.0;
    }
    counts
}

#[test]
fn draws_follow_temperature_top_k_and_top_p() {
    let logits: Vec<f64> = [0.5, 0.3, 0.15, 0.05_f64].iter().map(|p| p.ln()).collect();
    let close = |options: GenerateOptions, expected: [f64; 4]| {
        let options = GenerateOptions { seed: 5, ..options };
        for (share, expected) in shares(&options, &logits).iter().zip(expected) {
            // Four standard errors.
            assert!((share - expected).abs() <= 0.0142, "{share} {expected} {options:?}");
        }
    };
    let base = || GenerateOptions { temperature: 1.0, ..GenerateOptions::default() };
    close(base(), [0.5, 0.3, 0.15, 0.05]);
    close(GenerateOptions { top_k: 2, ..base() }, [0.625, 0.375, 0.0, 0.0]);
    close(GenerateOptions { top_p: 0.81, ..base() }, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
    close(GenerateOptions { top_p: 0.1, ..base() }, [1.0, 0.0, 0.0, 0.0]);
    let squared = 0.25 + 0.09 + 0.0225 + 0.0025;
    close(
        GenerateOptions { temperature: 0.5, ..base() },
        [0.25 / squared, 0.09 / squared, 0.0225 / squared, 0.0025 / squared],
    );
}
