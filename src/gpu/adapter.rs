//! The list of GPUs, their abilities, and the choice of one.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The properties of an adapter, known before it is opened.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterInfo {
    /// Its index in the list of [`adapters`], as in [`Selector::Index`].
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// Its API: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Device memory in bytes; `None` if the API does not report it.
    pub memory: Option<u64>,
    /// The largest buffer, in bytes.
    pub max_buffer: u64,
    /// The largest part of a buffer that a kernel can see, in bytes.
    pub max_binding: u64,
    /// Whether kernels can use native f16.
    pub f16: bool,
    /// The smallest and the largest subgroup, if kernels can use subgroups.
    pub subgroups: Option<(u32, u32)>,
    /// Shapes of the matrix units that kernels can use, as `MxNxK inputs->sums`.
    pub cooperative_matrix: Vec<String>,
}

impl AdapterInfo {
    /// Whether the "GPU" runs on the CPU.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, self.driver)
    }
}

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The first of the best kind: discrete, then integrated, virtual, other and last software. `WGPU_ADAPTER_NAME`
    /// narrows the choice.
    #[default]
    Best,
    /// The adapter at this index in the list of [`adapters`].
    Index(usize),
    /// The best adapter whose name contains this, ignoring case.
    Name(String),
}

impl FromStr for Selector {
    type Err = std::convert::Infallible;

    /// A number is an index, anything else a part of a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index))
    }
}

/// Lists the adapters of this machine, in a stable order. `WGPU_BACKEND` narrows the list.
pub async fn adapters() -> Vec<AdapterInfo> {
    enumerate().await.iter().enumerate().map(|(index, adapter)| describe(index, adapter)).collect()
}

/// The adapter that `selector` names, without opening it.
///
/// # Errors
/// [`Error::Adapter`] if there is none.
pub async fn find_adapter(selector: &Selector) -> Result<AdapterInfo> {
    select(selector).await.map(|(_, info)| info)
}

/// Finds the adapter that `selector` names.
pub(super) async fn select(selector: &Selector) -> Result<(wgpu::Adapter, AdapterInfo)> {
    let mut adapters = enumerate().await;
    let infos: Vec<_> = adapters.iter().enumerate().map(|(index, adapter)| describe(index, adapter)).collect();
    if infos.is_empty() {
        return Err(Error::Adapter(
            "no GPU found: install a driver for Vulkan, Metal or DX12 (on Linux without a GPU, Mesa's software Vulkan: \
             package mesa-vulkan-drivers or vulkan-swrast), or unset WGPU_BACKEND if it names another API"
                .to_owned(),
        ));
    }
    let best_named = |name: &str| {
        let name = name.to_lowercase();
        infos.iter().filter(|info| info.name.to_lowercase().contains(&name)).min_by_key(|info| rank(info.kind))
    };
    let chosen = match selector {
        Selector::Index(index) => infos.get(*index),
        Selector::Name(name) => best_named(name),
        Selector::Best => best_named(&std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default()),
    };
    let Some(chosen) = chosen else {
        let problem = match selector {
            Selector::Index(index) => format!("no GPU with index {index}"),
            Selector::Name(name) => format!("no GPU whose name contains {name:?}"),
            Selector::Best => {
                let name = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default();
                format!("no GPU whose name contains {name:?}, the value of WGPU_ADAPTER_NAME")
            }
        };
        let list: Vec<_> = infos.iter().map(|info| format!("{}: {info}", info.index)).collect();
        return Err(Error::Adapter(format!("{problem}; there are: {}", list.join("; "))));
    };
    Ok((adapters.swap_remove(chosen.index), chosen.clone()))
}

async fn enumerate() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    descriptor.backends = backends;
    // The engine makes no indirect call, and the check of such calls limits buffers to 4 GiB on some drivers.
    descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

fn rank(kind: &str) -> usize {
    ["discrete", "integrated", "virtual", "other", "software"]
        .iter()
        .position(|&ranked| ranked == kind)
        .expect("every kind that `describe` gives is ranked")
}

pub(super) fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    let scalar = |kind: wgpu::CooperativeScalarType| format!("{kind:?}").to_lowercase();
    AdapterInfo {
        index,
        name: info.name,
        backend: info.backend.to_str().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        memory: device_memory(adapter),
        max_buffer: limits.max_buffer_size,
        max_binding: limits.max_storage_buffer_binding_size,
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        cooperative_matrix: adapter
            .cooperative_matrix_properties()
            .iter()
            .map(|shape| {
                let inputs = scalar(shape.ab_type);
                let sums = scalar(shape.cr_type);
                format!("{}x{}x{} {inputs}->{sums}", shape.m_size, shape.n_size, shape.k_size)
            })
            .collect(),
    }
}

/// The sides of the square matrices of f16 that an adapter's matrix units multiply to f32 sums, largest first.
pub(super) fn matrix_sides(adapter: &wgpu::Adapter) -> Vec<u32> {
    let shapes = adapter.cooperative_matrix_properties();
    let has = |side: &u32| {
        shapes.iter().any(|shape| {
            [shape.m_size, shape.n_size, shape.k_size] == [*side; 3]
                && shape.ab_type == wgpu::CooperativeScalarType::F16
                && shape.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().filter(has).collect()
}

/// The size of the device-local heaps. wgpu does not report it, so this asks Vulkan itself.
#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the adapter stays alive during the call, and nothing is created or destroyed through the raw handles.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device belongs to this instance.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = &memory.memory_heaps[..memory.memory_heap_count as usize];
    // Bit 0 of a heap's flags is VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.
    Some(heaps.iter().filter(|heap| heap.flags.as_raw() & 1 != 0).map(|heap| heap.size).sum())
}

#[cfg(any(target_vendor = "apple", target_family = "wasm"))]
fn device_memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}
