//! Products of matrices with what the network has made of the tokens.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, Device, Result, Storage, Tensor, bail};

use crate::packed::{self, Packed};
use crate::weights::Gguf;

/// A matrix, and perhaps what is added behind it.
pub(crate) struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
}

/// A matrix to multiply with.
pub(crate) enum Matrix {
    /// For kernels of our own.
    Packed(Packed),
    /// For candle's.
    Plain {
        tensor: Arc<QTensor>,
        /// How many zeros stand at the end of each row: what it is multiplied with must have them too.
        padding: usize,
    },
}

impl Linear {
    pub(crate) fn load(file: &mut Gguf, name: &str) -> Result<Self> {
        let bias = format!("{name}.bias");
        let bias = if file.has(&bias) { Some(file.vector(&bias)?) } else { None };
        Ok(Self { matrix: file.matrix(&format!("{name}.weight"))?, bias })
    }

    /// Of `x` (tokens × width).
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = Self::apply_all([self], x)?;
        Ok(y)
    }

    /// Several of the same width at once: `x` is then put into eight bits but once, and the threads meet but once.
    pub(crate) fn apply_all<const N: usize>(linears: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let packed: Option<Vec<&Packed>> = linears.iter().map(|linear| linear.matrix.packed()).collect();
        let products = match packed {
            Some(matrices) => multiply(&matrices, x)?,
            None => linears.iter().map(|linear| linear.matrix.times(x)).collect::<Result<_>>()?,
        };
        let biased = products.into_iter().zip(linears).map(|(product, linear)| match &linear.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        });
        let biased: Vec<Tensor> = biased.collect::<Result<_>>()?;
        biased.try_into().map_err(|_| candle_core::Error::msg("as many products as matrices"))
    }
}

impl Matrix {
    fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Packed(packed) => Some(packed),
            Self::Plain { .. } => None,
        }
    }

    fn times(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Packed(packed) => Ok(multiply(&[packed], x)?.remove(0)),
            Self::Plain { tensor, padding: 0 } => x.contiguous()?.apply_op1_no_bwd(tensor.as_ref()),
            Self::Plain { tensor, padding } => {
                x.pad_with_zeros(D::Minus1, 0, *padding)?.apply_op1_no_bwd(tensor.as_ref())
            }
        }
    }
}

fn multiply(matrices: &[&Packed], x: &Tensor) -> Result<Vec<Tensor>> {
    let (count, x) = (x.dim(0)?, x.contiguous()?);
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("it must be contiguous, and in memory")
    };
    let products = packed::multiply(matrices, &storage.as_slice::<f32>()?[from..to]);
    products.into_iter().map(|product| Tensor::from_vec(product, (count, ()), &Device::Cpu)).collect()
}
