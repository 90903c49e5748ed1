//! The choice of the next token.

use llguidance::toktrie::SimpleVob;
use rand::Rng;
use rand::rngs::ThreadRng;

/// Of this many likeliest tokens one is taken.
const CANDIDATES: usize = 40;

/// And of these only as many as have this share of the likelihood.
const SHARE: f32 = 0.95;

/// Chooses a token: the likeliest at temperature 0, else by lot; only of those that are allowed.
pub(crate) fn choose(
    logits: &[f32],
    allowed: Option<&SimpleVob>,
    temperature: f32,
    lot: &mut ThreadRng,
) -> Option<u32> {
    let allowed = |token: &u32| allowed.is_none_or(|allowed| allowed.is_allowed(*token));
    let tokens = (0..).zip(logits.iter().copied()).filter(|(token, _)| allowed(token));
    let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1);
    if temperature <= 0.0 {
        return tokens.min_by(likelier).map(|(token, _)| token);
    }
    let mut best: Vec<(u32, f32)> = tokens.collect();
    if best.len() > CANDIDATES {
        best.select_nth_unstable_by(CANDIDATES, likelier);
        best.truncate(CANDIDATES);
    }
    best.sort_unstable_by(likelier);
    let top = best.first()?.1;
    for (_, weight) in &mut best {
        *weight = ((*weight - top) / temperature).exp();
    }
    let enough = SHARE * best.iter().map(|(_, weight)| weight).sum::<f32>();
    let mut sum = 0.0;
    let kept = best.iter().position(|(_, weight)| {
        sum += weight;
        sum >= enough
    });
    best.truncate(kept.map_or(best.len(), |last| last + 1));
    let mut point = lot.random::<f32>() * best.iter().map(|(_, weight)| weight).sum::<f32>();
    let chosen = best.iter().find(|(_, weight)| {
        point -= weight;
        point <= 0.0
    });
    chosen.or(best.last()).map(|(token, _)| *token)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn at_temperature_0_the_likeliest_allowed_token_is_chosen() {
        let logits = [0.1, 3.0, -2.0, 2.5];
        let lot = &mut rand::rng();
        assert_eq!(choose(&logits, None, 0.0, lot), Some(1));
        let mut allowed = SimpleVob::alloc(4);
        allowed.allow_token(0);
        allowed.allow_token(2);
        assert_eq!(choose(&logits, Some(&allowed), 0.0, lot), Some(0));
        assert_eq!(choose(&logits, Some(&SimpleVob::alloc(4)), 0.0, lot), None);
    }

    #[test]
    fn a_lot_is_drawn_among_the_likely_and_allowed_ones_only() {
        let mut logits = vec![0.0; 1_000];
        logits[7] = 20.0;
        logits[8] = 20.0;
        let lot = &mut rand::rng();
        let drawn: std::collections::BTreeSet<u32> =
            (0..200).map(|_| choose(&logits, None, 1.0, lot).unwrap()).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [7, 8]);
    }
}
