//! RADV as a compiler: SPIR-V goes in, what the chip has to spend on it and its assembly come out.
//!
//! With `RADV_FORCE_FAMILY` in the environment, RADV offers a device of that family with no hardware behind it, which
//! compiles everything and runs nothing. It is opened as wgpu opens a device for the engine, because features change
//! the code: robust access can keep RADV from merging loads, and a subgroup size that may vary rules out some
//! assumptions. Knows nothing of kernels.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr;

use anyhow::{Context, Result, ensure};
use ash::khr::pipeline_executable_properties;
use ash::{ext, khr, vk};
use serde::{Deserialize, Serialize};

/// A device, and a layout with eight storage buffers and immediates, which fits all kernels. Both live until the
/// process ends.
pub(super) struct Radv {
    /// Unloads Vulkan when dropped.
    _vulkan: ash::Entry,
    device: ash::Device,
    layout: vk::PipelineLayout,
    executables: pipeline_executable_properties::Device,
    version: String,
    min_subgroup_size: u32,
    has_cooperative_matrices: bool,
}

/// A compiled kernel.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Binary {
    pub(super) vgprs: u64,
    /// How many subgroups of this kernel one SIMD can have in flight.
    pub(super) waves: u64,
    pub(super) spilled_vgprs: u64,
    pub(super) spilled_sgprs: u64,
    pub(super) scratch_bytes: u64,
    /// Workgroup memory.
    pub(super) lds_bytes: u64,
    pub(super) code_bytes: u64,
    pub(super) assembly: String,
}

impl Radv {
    pub(super) fn open() -> Result<Self> {
        // SAFETY: the loader is the system's own; every structure is filled as Vulkan wants it and outlives the call
        // that reads it.
        unsafe {
            let vulkan = ash::Entry::load().context("there is no Vulkan loader")?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance = vulkan
                .create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)
                .context("Vulkan gives no instance")?;
            let physical =
                instance.enumerate_physical_devices()?.into_iter().next().context("RADV offers no device")?;

            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut subgroups = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
            let mut properties =
                vk::PhysicalDeviceProperties2::default().push_next(&mut driver).push_next(&mut subgroups);
            instance.get_physical_device_properties2(physical, &mut properties);
            // Debian, for one, adds a revision of its own.
            let version = driver.driver_info_as_c_str()?.to_str()?.split('-').next().unwrap_or_default().to_owned();
            ensure!(driver.driver_id == vk::DriverId::MESA_RADV, "{version} is not RADV");
            let min_subgroup_size = subgroups.min_subgroup_size;

            let offered = instance.enumerate_device_extension_properties(physical)?;
            let offers = |name: &CStr| offered.iter().any(|offered| offered.extension_name_as_c_str() == Ok(name));
            let has_cooperative_matrices = offers(khr::cooperative_matrix::NAME);
            let mut extensions = vec![pipeline_executable_properties::NAME.as_ptr(), ext::robustness2::NAME.as_ptr()];
            let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default()
                .robust_buffer_access2(true)
                .robust_image_access2(true);
            let mut vulkan_11 = vk::PhysicalDeviceVulkan11Features::default()
                .storage_buffer16_bit_access(true)
                .uniform_and_storage_buffer16_bit_access(true);
            let mut vulkan_12 = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(true)
                .shader_int8(true)
                .vulkan_memory_model(true);
            let mut vulkan_13 = vk::PhysicalDeviceVulkan13Features::default()
                .robust_image_access(true)
                .shader_integer_dot_product(true)
                .shader_zero_initialize_workgroup_memory(true)
                .subgroup_size_control(true);
            let mut statistics =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut cooperative = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let mut create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_features(&core)
                .push_next(&mut robustness)
                .push_next(&mut vulkan_11)
                .push_next(&mut vulkan_12)
                .push_next(&mut vulkan_13)
                .push_next(&mut statistics);
            if has_cooperative_matrices {
                extensions.push(khr::cooperative_matrix::NAME.as_ptr());
                create = create.push_next(&mut cooperative);
            }
            let device = instance
                .create_device(physical, &create.enabled_extension_names(&extensions), None)
                .context("RADV lacks what the engine needs")?;
            let executables = pipeline_executable_properties::Device::new(&instance, &device);
            let layout = layout(&device)?;
            Ok(Self {
                _vulkan: vulkan,
                device,
                layout,
                executables,
                version,
                min_subgroup_size,
                has_cooperative_matrices,
            })
        }
    }

    /// Mesa's, such as `Mesa 25.0.7`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn has_cooperative_matrices(&self) -> bool {
        self.has_cooperative_matrices
    }

    pub(super) fn compile(&self, spirv: &[u32], entry_point: &str) -> Result<Binary> {
        let entry_point = CString::new(entry_point)?;
        // SAFETY: naga wrote the SPIR-V, from WGSL that it has validated; the pipeline has one executable, a compute
        // shader's.
        unsafe {
            let module = self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry_point);
            let create = vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout).flags(
                vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                    | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
            );
            let pipelines = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = pipelines.map_err(|(_, error)| error).context("RADV does not compile it")?[0];

            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let subgroup_size = self.executables.get_pipeline_executable_properties(&info)?[0].subgroup_size;
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let mut statistics = BTreeMap::new();
            for statistic in self.executables.get_pipeline_executable_statistics(&executable)? {
                statistics.insert(statistic.name_as_c_str()?.to_str()?.to_owned(), statistic.value.u64);
            }
            let statistic =
                |name: &str| statistics.get(name).copied().with_context(|| format!("RADV does not say its `{name}`"));
            Ok(Binary {
                vgprs: statistic("VGPRs")?,
                // RADV counts in subgroups of the smallest size, of which a larger one is several.
                waves: statistic("Subgroups per SIMD")? * u64::from(self.min_subgroup_size) / u64::from(subgroup_size),
                spilled_vgprs: statistic("Spilled VGPRs")?,
                spilled_sgprs: statistic("Spilled SGPRs")?,
                scratch_bytes: statistic("Scratch size")?,
                lds_bytes: statistic("LDS size")?,
                code_bytes: statistic("Code size")?,
                assembly: self.assembly(&executable)?,
            })
        }
    }

    /// # Safety
    /// The executable must be one of this device that was told to capture its representations.
    unsafe fn assembly(&self, executable: &vk::PipelineExecutableInfoKHR) -> Result<String> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: the first call says how many there are, the second how long each is, and the third fills them.
        unsafe {
            let mut count = 0;
            get(self.device.handle(), executable, &mut count, ptr::null_mut()).result()?;
            let mut representations = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(self.device.handle(), executable, &mut count, representations.as_mut_ptr()).result()?;
            let mut contents: Vec<_> = representations.iter().map(|one| vec![0_u8; one.data_size]).collect();
            for (representation, content) in representations.iter_mut().zip(&mut contents) {
                representation.p_data = content.as_mut_ptr().cast();
            }
            get(self.device.handle(), executable, &mut count, representations.as_mut_ptr()).result()?;
            let index = representations.iter().position(|one| one.name_as_c_str() == Ok(c"Assembly"));
            let assembly = &contents[index.context("this RADV cannot show its assembly")?];
            Ok(String::from_utf8_lossy(assembly).trim_end_matches('\0').to_owned())
        }
    }
}

/// # Safety
/// The device must be one of Vulkan's, as for any call.
unsafe fn layout(device: &ash::Device) -> Result<vk::PipelineLayout> {
    let bindings: Vec<_> = (0..8)
        .map(|binding| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(binding)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        })
        .collect();
    let immediates = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(128)];
    let bindings = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
    // SAFETY: as the caller promises.
    unsafe {
        let sets = [device.create_descriptor_set_layout(&bindings, None)?];
        let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&immediates);
        Ok(device.create_pipeline_layout(&create, None)?)
    }
}
