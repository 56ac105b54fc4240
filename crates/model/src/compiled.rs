//! The computations of this crate, compiled here for f32 and f64.
//!
//! A generic function is compiled by the crate that calls it, with that crate's settings. Programs and
//! tests are built for debugging, where that would make training ten times slower; so the public
//! functions go through these methods, whose code is part of this crate and its optimisation.

use half::bf16;

use crate::batch::Packed;
use crate::cache::KvCache;
use crate::decode::{self, Decoder};
use crate::dora;
use crate::error::Result;
use crate::grads::{self, Grads};
use crate::lora::Adapter;
use crate::loss::Loss;
use crate::optim::{self, AdamW, Parameter};
use crate::params::Model;
use crate::threads::Threads;
use crate::train::Weigh;
use crate::workspace::Workspace;
use crate::{generate, simd, train};

/// What [`crate::Real`] types bring along. Not for implementing: there is f32 and f64.
pub trait Compiled: Sized {
    #[doc(hidden)]
    fn loss_and_grads(
        model: &Model<Self>,
        adapter: Option<&Adapter<Self>>,
        batch: &Packed,
        scale: Self,
        grads: &mut Grads<Self>,
        ws: &mut Workspace<Self>,
    ) -> Result<Loss>;

    #[doc(hidden)]
    fn sequence_grads(
        model: &Model<Self>,
        adapter: &Adapter<Self>,
        batch: &Packed,
        grads: &mut Grads<Self>,
        ws: &mut Workspace<Self>,
        weigh: (usize, Weigh<'_>),
    ) -> Result<Vec<Loss>>;

    #[doc(hidden)]
    fn evaluate(
        model: &Model<Self>,
        adapter: Option<&Adapter<Self>>,
        batch: &Packed,
        ws: &mut Workspace<Self>,
    ) -> Result<Vec<Loss>>;

    #[doc(hidden)]
    fn logits(model: &Model<Self>, adapter: Option<&Adapter<Self>>, tokens: &[u32]) -> Result<Vec<Self>>;

    #[doc(hidden)]
    fn feed(
        decoder: &mut Decoder<Self>,
        model: &Model<Self>,
        adapter: Option<&Adapter<Self>>,
        cache: &mut KvCache<Self>,
        tokens: &[u32],
    ) -> Result<()>;

    #[doc(hidden)]
    fn step(adam: &mut AdamW<Self>, parameters: &mut [Parameter<'_, Self>], lr: f64) -> Result<()>;

    #[doc(hidden)]
    fn prepare(adapter: &mut Adapter<Self>, model: &Model<Self>, threads: Threads);

    #[doc(hidden)]
    fn sum_of_squares(values: &[Self]) -> f64;

    #[doc(hidden)]
    fn scale(values: &mut [Self], factor: Self);

    #[doc(hidden)]
    fn add_to(sum: &mut [Self], more: &[Self]);

    #[doc(hidden)]
    fn all_finite(values: &[Self]) -> bool;

    #[doc(hidden)]
    fn widen(values: &[bf16], out: &mut [Self]);

    #[doc(hidden)]
    fn log_sum_exp(logits: &[Self]) -> (Self, Self);
}

macro_rules! compile {
    ($real:ty) => {
        impl Compiled for $real {
            #[inline(never)]
            fn loss_and_grads(
                model: &Model<Self>,
                adapter: Option<&Adapter<Self>>,
                batch: &Packed,
                scale: Self,
                grads: &mut Grads<Self>,
                ws: &mut Workspace<Self>,
            ) -> Result<Loss> {
                train::check(model, adapter, batch)?;
                train::check_grads(model, adapter, grads)?;
                match ws.device.clone() {
                    Some(device) => device.loss_and_grads(adapter, batch, scale, grads, ws),
                    None => train::compute_loss_and_grads(model, adapter, batch, scale, grads, ws),
                }
            }

            #[inline(never)]
            fn sequence_grads(
                model: &Model<Self>,
                adapter: &Adapter<Self>,
                batch: &Packed,
                grads: &mut Grads<Self>,
                ws: &mut Workspace<Self>,
                weigh: (usize, Weigh<'_>),
            ) -> Result<Vec<Loss>> {
                train::check(model, Some(adapter), batch)?;
                train::check_grads(model, Some(adapter), grads)?;
                match ws.device.clone() {
                    Some(device) => device.sequence_grads(adapter, batch, grads, ws, weigh),
                    None => train::compute_sequence_grads(model, adapter, batch, grads, ws, weigh),
                }
            }

            #[inline(never)]
            fn evaluate(
                model: &Model<Self>,
                adapter: Option<&Adapter<Self>>,
                batch: &Packed,
                ws: &mut Workspace<Self>,
            ) -> Result<Vec<Loss>> {
                train::check(model, adapter, batch)?;
                match &ws.device {
                    Some(device) => device.evaluate(adapter, batch),
                    None => train::compute_evaluation(model, adapter, batch, ws),
                }
            }

            #[inline(never)]
            fn logits(
                model: &Model<Self>,
                adapter: Option<&Adapter<Self>>,
                tokens: &[u32],
            ) -> Result<Vec<Self>> {
                train::compute_logits(model, adapter, tokens)
            }

            #[inline(never)]
            fn feed(
                decoder: &mut Decoder<Self>,
                model: &Model<Self>,
                adapter: Option<&Adapter<Self>>,
                cache: &mut KvCache<Self>,
                tokens: &[u32],
            ) -> Result<()> {
                decode::compute(decoder, model, adapter, cache, tokens)
            }

            #[inline(never)]
            fn step(adam: &mut AdamW<Self>, parameters: &mut [Parameter<'_, Self>], lr: f64) -> Result<()> {
                optim::compute_step(adam, parameters, lr)
            }

            #[inline(never)]
            fn prepare(adapter: &mut Adapter<Self>, model: &Model<Self>, threads: Threads) {
                dora::prepare(adapter, model, threads);
            }

            #[inline(never)]
            fn sum_of_squares(values: &[Self]) -> f64 {
                grads::compute_sum_of_squares(values)
            }

            #[inline(never)]
            fn scale(values: &mut [Self], factor: Self) {
                simd::scale(values, factor);
            }

            #[inline(never)]
            fn add_to(sum: &mut [Self], more: &[Self]) {
                simd::add(sum, more);
            }

            #[inline(never)]
            fn all_finite(values: &[Self]) -> bool {
                simd::all_finite(values)
            }

            #[inline(never)]
            fn widen(values: &[bf16], out: &mut [Self]) {
                simd::widen(values, out);
            }

            #[inline(never)]
            fn log_sum_exp(logits: &[Self]) -> (Self, Self) {
                generate::compute_log_sum_exp(logits)
            }
        }
    };
}

compile!(f32);
compile!(f64);
