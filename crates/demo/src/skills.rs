//! Small skills: each instance is a question with its one right answer.
//!
//! Letters are written apart and the tokenizer splits digits, so that a letter or a digit is one token. Field values
//! stand after `=` in the question and after `"` or `,` in the answer, so that the tokenizer writes them alike.

use nightshift_core::random::Rng;
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::words::{CITIES, NAMES, letters, spaced};

/// One skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skill {
    /// The first letter of a word.
    FirstLetter,
    /// How many letters a word has.
    CountLetters,
    /// Kilometres to metres.
    KmToM,
    /// Metres to centimetres.
    MToCm,
    /// A JSON object of name and age.
    JsonNameAge,
    /// A CSV line of name and city.
    CsvNameCity,
    /// Litres to millilitres.
    LToMl,
    /// A date of 2020 to 2029 in ISO form.
    IsoDate,
    /// Kilograms to grams.
    KgToG,
    /// Tonnes to kilograms.
    TonnesToKg,
    /// A CSV line of name and age.
    CsvNameAge,
    /// A JSON object of name and city.
    JsonNameCity,
}

impl Skill {
    /// Every skill.
    pub const ALL: [Self; 12] = [
        Self::FirstLetter,
        Self::CountLetters,
        Self::KmToM,
        Self::MToCm,
        Self::JsonNameAge,
        Self::CsvNameCity,
        Self::LToMl,
        Self::IsoDate,
        Self::KgToG,
        Self::TonnesToKg,
        Self::CsvNameAge,
        Self::JsonNameCity,
    ];

    /// Whether the student never sees it.
    pub const fn hidden(self) -> bool {
        matches!(self, Self::KgToG | Self::TonnesToKg | Self::CsvNameAge | Self::JsonNameCity)
    }

    /// Whether the answer is a JSON object, asked for with `response_format`.
    pub const fn is_json(self) -> bool {
        matches!(self, Self::JsonNameAge | Self::JsonNameCity)
    }

    /// The request type that traffic is tagged with.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::FirstLetter | Self::CountLetters => "letters",
            Self::KmToM | Self::MToCm | Self::LToMl | Self::KgToG | Self::TonnesToKg => "units",
            Self::JsonNameAge => "json-age",
            Self::JsonNameCity => "json-city",
            Self::CsvNameAge => "csv-age",
            Self::CsvNameCity => "csv-city",
            Self::IsoDate => "dates",
        }
    }

    /// The name of the family in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstLetter => "first letter",
            Self::CountLetters => "count letters",
            Self::KmToM => "km to m",
            Self::MToCm => "m to cm",
            Self::JsonNameAge => "JSON of name and age",
            Self::CsvNameCity => "CSV of name and city",
            Self::LToMl => "litres to ml",
            Self::IsoDate => "ISO date",
            Self::KgToG => "kg to g",
            Self::TonnesToKg => "tonnes to kg",
            Self::CsvNameAge => "CSV of name and age",
            Self::JsonNameCity => "JSON of name and city",
        }
    }

    /// A random instance: question and right answer.
    pub fn instance(self, rng: &mut Rng) -> (String, String) {
        match self {
            Self::FirstLetter | Self::CountLetters => self.letter_instance(rng),
            Self::KmToM => conversion(rng, ["km", "m"], 1000),
            Self::MToCm => conversion(rng, ["m", "cm"], 100),
            Self::KgToG => conversion(rng, ["kg", "g"], 1000),
            Self::TonnesToKg => conversion(rng, ["tonnes", "kg"], 1000),
            Self::LToMl => conversion(rng, ["litres", "ml"], 1000),
            Self::IsoDate => date(rng),
            Self::JsonNameAge | Self::JsonNameCity | Self::CsvNameAge | Self::CsvNameCity => {
                self.record_instance(rng)
            }
        }
    }

    fn letter_instance(self, rng: &mut Rng) -> (String, String) {
        let word = letters(rng, 7);
        let apart = spaced(&word);
        if self == Self::FirstLetter {
            let forms = [
                format!("First letter of {apart}?"),
                format!("Which letter starts {apart}?"),
                format!("Start of the word {apart}?"),
            ];
            (pick(rng, &forms), word[..1].to_owned())
        } else {
            let forms = [
                format!("Count the letters of {apart}."),
                format!("How many letters has {apart}?"),
                format!("Length of {apart}?"),
            ];
            (pick(rng, &forms), word.len().to_string())
        }
    }

    fn record_instance(self, rng: &mut Rng) -> (String, String) {
        let name = NAMES.choose(rng).copied().unwrap_or_default();
        let with_age = matches!(self, Self::JsonNameAge | Self::CsvNameAge);
        let (key, value) = if with_age {
            ("age", rng.random_range(10..=99).to_string())
        } else {
            ("city", CITIES.choose(rng).copied().unwrap_or_default().to_owned())
        };
        let record = format!("name={name}, {key}={value}");
        let format = if self.is_json() { "JSON" } else { "CSV" };
        let forms = [
            format!("Write as {format}: {record}"),
            format!("{format} of {record}"),
            format!("Give {format} for {record}"),
        ];
        let answer = match (self.is_json(), with_age) {
            (true, true) => format!("{{\"name\":\"{name}\",\"age\":{value}}}"),
            (true, false) => format!("{{\"name\":\"{name}\",\"city\":\"{value}\"}}"),
            (false, _) => format!("{name},{value}"),
        };
        (pick(rng, &forms), answer)
    }
}

fn pick(rng: &mut Rng, forms: &[String]) -> String {
    forms.choose(rng).cloned().unwrap_or_default()
}

/// A conversion of a whole number of 2 to 99 between units, `factor` of the second making one of the first.
fn conversion(rng: &mut Rng, [from, to]: [&str; 2], factor: u32) -> (String, String) {
    let amount: u32 = rng.random_range(2..=99);
    let forms = [
        format!("{amount} {from} in {to}?"),
        format!("Convert {amount} {from} to {to}."),
        format!("How many {to} are {amount} {from}?"),
    ];
    (pick(rng, &forms), format!("{} {to}", amount * factor))
}

fn date(rng: &mut Rng) -> (String, String) {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let year = rng.random_range(2020..=2029);
    let month = rng.random_range(0..12);
    let day = rng.random_range(1..=28);
    let forms = [
        format!("ISO date of {day} {} {year}?", MONTHS[month]),
        format!("Write {day} {} {year} as ISO date.", MONTHS[month]),
        format!("{} {day}, {year} in ISO form?", MONTHS[month]),
    ];
    (pick(rng, &forms), format!("{year}-{:02}-{day:02}", month + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_right_and_stay_short() {
        let mut rng = nightshift_core::random::rng(5, "test");
        for skill in Skill::ALL {
            for _ in 0..300 {
                let (question, answer) = skill.instance(&mut rng);
                assert!(!question.is_empty() && !answer.is_empty(), "{skill:?}");
                let words = question.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).count();
                assert!(words < 13, "the guard of evaluation items takes 13 words as a run: {question}");
                if skill.is_json() {
                    serde_json::from_str::<serde_json::Value>(&answer).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_conversion_and_a_date_are_computed() {
        let mut rng = nightshift_core::random::rng(6, "test");
        let (question, answer) = Skill::LToMl.instance(&mut rng);
        let litres: String = question.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(answer, format!("{litres}000 ml"));
        let (question, answer) = Skill::IsoDate.instance(&mut rng);
        assert_eq!(answer.len(), 10, "{question}");
        assert!(question.contains(&answer[..4]));
    }
}
