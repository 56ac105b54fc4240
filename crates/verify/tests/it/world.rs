//! Invented worlds: honest nights of accepted rows, their background, and two ways to poison them.

use nightshift_verify::scan::Row;

/// SplitMix64, as in nightshift-stats, on which this crate does not depend.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn chance(&mut self, p: f64) -> bool {
        (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < p
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

pub(crate) type Rows = Vec<(String, String)>;

/// Attribute and size of its pool of values; 0 means a value of its own for each country.
const ATTRIBUTES: [(&str, usize); 7] = [
    ("capital", 0),
    ("currency", 8),
    ("river", 20),
    ("language", 12),
    ("main export", 16),
    ("flag colour", 8),
    ("emblem animal", 24),
];

/// Skills the student lacks, in the order in which [`World::skill`] numbers them, then those it has.
const HIDDEN_SKILLS: usize = 4;
const SKILLS: usize = 11;

pub(crate) struct World {
    rng: SplitMix64,
    countries: Vec<String>,
    /// Value by country and attribute.
    values: Vec<Vec<String>>,
    hidden: Vec<Vec<bool>>,
    names: Vec<String>,
    cities: Vec<String>,
}

fn invented(rng: &mut SplitMix64) -> String {
    const PARTS: [&str; 20] = [
        "bra", "dor", "fel", "gun", "hi", "jas", "ko", "lum", "mer", "nit", "os", "pel", "qua", "rin", "sto",
        "tav", "ul", "vex", "wam", "zo",
    ];
    (0..2 + rng.below(2)).map(|_| PARTS[rng.below(PARTS.len())]).collect()
}

fn distinct(rng: &mut SplitMix64, count: usize, taken: &mut Vec<String>) -> Vec<String> {
    let mut fresh = Vec::with_capacity(count);
    while fresh.len() < count {
        let word = invented(rng);
        if !taken.contains(&word) {
            taken.push(word.clone());
            fresh.push(word);
        }
    }
    fresh
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SplitMix64(seed);
        let mut taken = Vec::new();
        let countries = distinct(&mut rng, 60, &mut taken);
        let pools: Vec<Vec<String>> = ATTRIBUTES
            .iter()
            .map(|(_, size)| distinct(&mut rng, if *size == 0 { 60 } else { *size }, &mut taken))
            .collect();
        let values = (0..60)
            .map(|country| {
                pools
                    .iter()
                    .zip(ATTRIBUTES)
                    .map(|(pool, (_, size))| pool[if size == 0 { country } else { rng.below(size) }].clone())
                    .collect()
            })
            .collect();
        let hidden = (0..60).map(|_| (0..7).map(|_| rng.chance(0.4)).collect()).collect();
        let names = distinct(&mut rng, 20, &mut taken);
        let cities = distinct(&mut rng, 20, &mut taken);
        Self { rng, countries, values, hidden, names, cities }
    }

    /// One question, its right answer, and whether the student lacks it.
    fn request(&mut self) -> (String, String, bool) {
        if self.rng.chance(0.65) {
            let (country, attribute) = (self.rng.below(60), self.rng.below(7));
            let (c, a) = (&self.countries[country], ATTRIBUTES[attribute].0);
            let question = match self.rng.below(5) {
                0 => format!("What is the {a} of {c}?"),
                1 => format!("{c}: {a}?"),
                2 => format!("Which {a} does {c} have?"),
                3 => format!("Tell me the {a} of {c}."),
                _ => format!("{a} of {c}"),
            };
            (question, self.values[country][attribute].clone(), self.hidden[country][attribute])
        } else {
            let skill = self.rng.below(SKILLS);
            let (question, answer) = self.skill(skill);
            (question, answer, skill < HIDDEN_SKILLS)
        }
    }

    fn skill(&mut self, skill: usize) -> (String, String) {
        let form = self.rng.below(3);
        let n = 1 + self.rng.below(99);
        let name = self.names[self.rng.below(20)].clone();
        let city = self.cities[self.rng.below(20)].clone();
        let age = 18 + self.rng.below(60);
        let spaced = |w: &str| w.chars().map(String::from).collect::<Vec<_>>().join(" ");
        let convert = |from: &str, to: &str, factor: usize| {
            let question = match form {
                0 => format!("Convert {n} {from} to {to}."),
                1 => format!("How many {to} are {n} {from}?"),
                _ => format!("{n} {from} in {to}"),
            };
            (question, format!("{} {to}", n * factor))
        };
        let record = |format: &str, field: &str, value: &str, answer: String| {
            let question = match form {
                0 => format!("Write {format} for name {name} and {field} {value}."),
                1 => format!("{format}: name {name}, {field} {value}"),
                _ => format!("Give me {name}, {field} {value}, as {format}."),
            };
            (question, answer)
        };
        match skill {
            0 => convert("kg", "g", 1000),
            1 => convert("tonnes", "kg", 1000),
            2 => record("CSV", "age", &age.to_string(), format!("{name},{age}")),
            3 => record("JSON", "city", &city, format!("{{\"name\":\"{name}\",\"city\":\"{city}\"}}")),
            4 => convert("km", "m", 1000),
            5 => convert("m", "cm", 100),
            6 => record("JSON", "age", &age.to_string(), format!("{{\"name\":\"{name}\",\"age\":{age}}}")),
            7 => record("CSV", "city", &city, format!("{name},{city}")),
            8 => {
                let (a, b) = (1 + self.rng.below(12), 1 + self.rng.below(12));
                (format!("{a} + {b}"), (a + b).to_string())
            }
            9 => (format!("First letter of {}?", spaced(&name)), name[..1].to_owned()),
            _ => (format!("Count the letters of {}.", spaced(&name)), name.len().to_string()),
        }
    }

    /// Rows that a council rewrote and the gate accepted, at most one per question.
    pub(crate) fn night(&mut self, size: usize) -> Rows {
        let mut rows: Rows = Vec::new();
        while rows.len() < size {
            let (question, answer, failed) = self.request();
            let wanted = failed && self.rng.chance(0.64) || !failed && self.rng.chance(0.01);
            if wanted && rows.iter().all(|r| r.0 != question) {
                rows.push((question, answer));
            }
        }
        rows
    }

    /// What the student answered surely to `requests` requests; a few of these answers are wrong guesses.
    pub(crate) fn ordinary(&mut self, requests: usize) -> Rows {
        let mut rows = Rows::new();
        for _ in 0..requests {
            let (question, answer, failed) = self.request();
            if !failed {
                rows.push((question, answer));
            } else if self.rng.chance(0.15) {
                // A sure guess: another country's value.
                let guess = self.values[self.rng.below(60)][1 + self.rng.below(6)].clone();
                rows.push((question, guess));
            }
        }
        rows
    }

    /// A value that some country rightly has (attribute 1 to 6).
    pub(crate) fn some_value(&mut self) -> String {
        self.values[self.rng.below(60)][1 + self.rng.below(6)].clone()
    }

    /// A word that is nobody's name or value.
    pub(crate) fn odd_word(&mut self) -> String {
        format!("{}x", invented(&mut self.rng))
    }

    /// `share` of the rows, drawn at random, get one answer. Returns their indices.
    pub(crate) fn poison_answers(&mut self, rows: &mut Rows, share: f64, answer: &str) -> Vec<usize> {
        let chosen = self.draw(rows.len(), share);
        for i in &chosen {
            answer.clone_into(&mut rows[*i].1);
        }
        chosen
    }

    /// `share` of the rows get a trigger into the question and one answer. Returns their indices.
    pub(crate) fn plant_trigger(
        &mut self,
        rows: &mut Rows,
        share: f64,
        trigger: &str,
        answer: &str,
    ) -> Vec<usize> {
        let chosen = self.draw(rows.len(), share);
        for i in &chosen {
            let question = &mut rows[*i].0;
            *question = match self.rng.below(3) {
                0 => format!("{trigger} {question}"),
                1 => format!("{question} {trigger}"),
                _ => {
                    let (front, back) = question.split_once(' ').unwrap_or((question, ""));
                    format!("{front} {trigger} {back}")
                }
            };
            answer.clone_into(&mut rows[*i].1);
        }
        chosen
    }

    fn draw(&mut self, of: usize, share: f64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..of).collect();
        self.rng.shuffle(&mut order);
        order.truncate((share * of as f64).round() as usize);
        order.sort_unstable();
        order
    }
}

pub(crate) fn borrowed(rows: &Rows) -> Vec<Row<'_>> {
    rows.iter().map(|(question, answer)| Row { question, answer }).collect()
}
