/*
 * bcryptprimitives.dll for wine 8, which has none: the one function that Rust's standard library
 * takes from it (https://learn.microsoft.com/en-us/windows/win32/seccng/processprng), by
 * RtlGenRandom, which advapi32.dll exports as SystemFunction036.
 */
#include <limits.h>
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    return length <= ULONG_MAX && SystemFunction036(data, (ULONG)length);
}
