/* The slots that make an extension type awaitable without an exception per await.
 *
 * A Cython __next__ that ends with `raise StopIteration(value)` builds a traceback each time, which
 * costs more than a whole small message. These slots return the value instead:
 *   CPython 3.10, 3.11  `await` calls am_send, which returns PYGEN_RETURN and the value;
 *   CPython 3.12+       `await` calls tp_iternext. NULL without an exception is the value None; any
 *                       other value goes into a StopIteration that is made here, without traceback.
 */
#ifndef FASTWS_AWAIT_H
#define FASTWS_AWAIT_H

#include <Python.h>

/* Runs one step of the awaitable. 1: done, *result is its value. 0: *result is to be yielded.
 * -1: an exception is set. *result is a new reference. */
typedef int (*fastws_step)(PyObject *self, PyObject **result);

static fastws_step fastws_run_step = NULL;

/* A StopIteration is worth keeping for values of up to this many bytes: it refers to the last one
 * until the next is set. */
#define FASTWS_KEPT_VALUE 4096

static int fastws_is_small(PyObject *value)
{
    if (PyUnicode_CheckExact(value))
        return PyUnicode_GET_LENGTH(value) * (Py_ssize_t)PyUnicode_KIND(value) <= FASTWS_KEPT_VALUE;
    if (PyBytes_CheckExact(value))
        return PyBytes_GET_SIZE(value) <= FASTWS_KEPT_VALUE;
    return 0;
}

/* Steals the reference to value. */
static void fastws_stop_iteration(PyObject *value)
{
    PyObject *exception;
#if PY_VERSION_HEX >= 0x030C0000
    static PyObject *kept = NULL;
    if (fastws_is_small(value)) {
        if (kept != NULL && Py_REFCNT(kept) == 1) {
            PyObject *previous = ((PyStopIterationObject *)kept)->value;
            ((PyStopIterationObject *)kept)->value = value;
            Py_XDECREF(previous);
            Py_CLEAR(((PyBaseExceptionObject *)kept)->traceback);
            Py_CLEAR(((PyBaseExceptionObject *)kept)->context);
            PyErr_SetRaisedException(Py_NewRef(kept));
            return;
        }
        exception = PyObject_CallNoArgs(PyExc_StopIteration);
        if (exception != NULL) {
            Py_XSETREF(((PyStopIterationObject *)exception)->value, value);
            Py_XSETREF(kept, Py_NewRef(exception));
            PyErr_SetRaisedException(exception);
            return;
        }
        Py_DECREF(value);
        return;
    }
#else
    (void)fastws_is_small;
#endif
    /* Called, not set with a bare value: a tuple would become the exception's arguments. */
    exception = PyObject_CallFunctionObjArgs(PyExc_StopIteration, value, NULL);
    Py_DECREF(value);
    if (exception != NULL) {
        PyErr_SetObject(PyExc_StopIteration, exception);
        Py_DECREF(exception);
    }
}

static PySendResult fastws_am_send(PyObject *self, PyObject *argument, PyObject **result)
{
    int outcome;
    (void)argument;
    *result = NULL;
    outcome = fastws_run_step(self, result);
    return outcome > 0 ? PYGEN_RETURN : outcome == 0 ? PYGEN_NEXT : PYGEN_ERROR;
}

static PyObject *fastws_iternext(PyObject *self)
{
    PyObject *result = NULL;
    int outcome = fastws_run_step(self, &result);
    if (outcome == 0)
        return result;
    if (outcome > 0) {
        if (result == Py_None)
            Py_DECREF(result);
        else
            fastws_stop_iteration(result);
    }
    return NULL;
}

static PyObject *fastws_am_await(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

/* The same for a type that is always done, and whose value is None. */
static PySendResult fastws_ready_am_send(PyObject *self, PyObject *argument, PyObject **result)
{
    (void)self;
    (void)argument;
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *fastws_ready_iternext(PyObject *self)
{
    (void)self;
    return NULL;
}

/* Call once for each type, before any instance exists. The type has an __await__ and a __next__. */
static int fastws_install_slots(PyObject *cls, fastws_step run_step, int is_ready)
{
    PyTypeObject *type = (PyTypeObject *)cls;
    if (type->tp_as_async == NULL) {
        PyErr_Format(PyExc_SystemError, "%s has no __await__", type->tp_name);
        return -1;
    }
    fastws_run_step = run_step;
    type->tp_as_async->am_await = fastws_am_await;
    type->tp_as_async->am_send = is_ready ? fastws_ready_am_send : fastws_am_send;
    type->tp_iternext = is_ready ? fastws_ready_iternext : fastws_iternext;
    PyType_Modified(type);
    return 0;
}

#endif
