// SPDX-License-Identifier: GPL-2.0

//! Calls that tests can make fail, to see how the driver copes.
//!
//! Would go to `rust/kernel/fault.rs`. The crate has no fault injection.
//!
//! Function error injection of the kernel. With `CONFIG_FUNCTION_ERROR_INJECTION` each call is in a
//! function of its own. These are listed in debugfs in `error_injection/list`, and `fail_function`
//! overrides them. Without that option nothing but the call is left. The kernel itself injects failed
//! allocations and failed copies from and to user memory. See
//! `Documentation/fault-injection/fault-injection.rst`.
//!
//! C header: [`include/asm-generic/error-injection.h`](srctree/include/asm-generic/error-injection.h)

#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
use {
    super::bindings as extra,
    kernel::ffi, //
};

/// Evaluates `$call`, a `Result`, in a function that error injection can override. An overridden function
/// does not make the call, and the result is `Err($error)`, which should be an error of the call, too.
///
/// `$function` is the name of the function, and becomes a symbol of the kernel. `$call` may become a
/// closure, and has no `?` and no `return`.
macro_rules! injectable {
    ($function:ident, $error:expr, $call:expr $(,)?) => {{
        #[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
        let result = {
            #[used]
            #[link_section = "_error_injection_whitelist"]
            static INJECTABLE: $crate::kernel_ext::fault::Injectable =
                $crate::kernel_ext::fault::Injectable::new($function);

            #[inline(never)]
            #[no_mangle]
            extern "C" fn $function(
                call: &mut $crate::kernel_ext::fault::Call<'_>,
            ) -> ::kernel::ffi::c_int {
                // Or LLVM merges all such functions, as they are equal.
                core::hint::black_box(&INJECTABLE);
                call.fails().into()
            }

            $crate::kernel_ext::fault::call($function, $error, || $call)
        };
        #[cfg(not(CONFIG_FUNCTION_ERROR_INJECTION))]
        let result = $call;

        result
    }};
}

pub(crate) use injectable;

/// The argument of an injectable function: its call, which returns whether it has failed.
#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
pub(crate) struct Call<'a>(&'a mut dyn FnMut() -> bool);

#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
impl Call<'_> {
    /// Makes the call.
    pub(crate) fn fails(&mut self) -> bool {
        (self.0)()
    }
}

/// An entry of the list of injectable functions, as `ALLOW_ERROR_INJECTION(function, TRUE)` makes it: for
/// a function that returns `true` if it fails. Corresponds to `struct error_injection_entry`.
#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
#[repr(C)]
pub(crate) struct Injectable {
    function: Function,
    etype: ffi::c_int,
}

/// An injectable function: not 0 if its call has failed, or was overridden.
#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
pub(crate) type Function = extern "C" fn(&mut Call<'_>) -> ffi::c_int;

#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
impl Injectable {
    pub(crate) const fn new(function: Function) -> Self {
        Self {
            function,
            etype: extra::EI_ETYPE_TRUE as ffi::c_int,
        }
    }
}

/// Makes `call` in `function`. Returns `error` if that was overridden.
// The entry of the list is not asked for the function: built in, it is gone when the kernel has booted.
#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
pub(crate) fn call<T, E>(
    function: Function,
    error: E,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let mut call = Some(call);
    let mut result = Err(error);

    function(&mut Call(&mut || {
        if let Some(call) = call.take() {
            result = call();
        }
        result.is_err()
    }));
    result
}
