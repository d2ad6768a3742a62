def figures(results, folder):
    return {}
